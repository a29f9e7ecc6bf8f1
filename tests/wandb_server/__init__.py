"""A small W&B server on 127.0.0.1 that the real client talks to over a real socket, and what it understood."""

from tests.wandb_server.server import KEY, WandbServer
from tests.wandb_server.store import StoredRun

__all__ = ["KEY", "StoredRun", "WandbServer"]
