"""``python -m vqvae_dist``."""

import sys

from vqvae_dist.cli import main

if __name__ == "__main__":
    sys.exit(main())
