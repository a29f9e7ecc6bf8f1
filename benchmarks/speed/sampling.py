"""Drawing codes from a prior beside one teacher-forced forward pass of the same batch."""

from __future__ import annotations

import torch

from benchmarks.speed.row import Options, Row, median_seconds
from vqvae_dist.config import PixelCNNModelConfig
from vqvae_dist.models.build import build_pixelcnn
from vqvae_dist.models.conditioning import Condition
from vqvae_dist.models.prior import Prior
from vqvae_dist.models.sampling import sample

GRID, K = 64, 512
BATCH = {"cpu": 16, "cuda": 64}
LAYERS, HIDDEN = 12, 128


def rows(options: Options) -> list[Row]:
    """Without attention, and, unless quick, with it every few layers and cached keys."""
    return [row for attention in ((0,) if options.quick else (0, 4)) for row in measure(options, attention)]


def measure(options: Options, attention: int) -> list[Row]:
    """The ratio to one pass, and on a GPU to the naive way too."""
    batch = BATCH[options.device]
    torch.manual_seed(0)
    config = PixelCNNModelConfig(layers=LAYERS, hidden=HIDDEN, attention=attention, condition_class=False)
    model = build_pixelcnn(config, codebook_size=K, classes=0).to(options.device).eval()
    condition = Condition(torch.linspace(0, 1, batch), torch.full((batch,), -1), torch.zeros(batch))
    one = forward_seconds(model, condition, batch, options.device)
    all_cells = median_seconds(
        lambda: sample(model, grid=(GRID, GRID), condition=condition, seed=0), repeat=1, warm=0, device=options.device
    )
    about = f"{GRID}x{GRID}, batch {batch}, {LAYERS} x {HIDDEN}, {'attention' if attention else 'no attention'}"
    steps = GRID * GRID
    found = [
        Row(f"sampling, {about}", all_cells, "s", "one forward pass", one, all_cells / one,
            "<= 5" if options.device == "cpu" and not attention else "-"),
    ]  # fmt: skip
    if options.device == "cuda":
        naive = steps * one
        found.append(Row(f"sampling, {about}", batch / all_cells, "samples/s", f"naive, {steps} passes",
                         batch / naive, naive / all_cells, ">= 200"))  # fmt: skip
    return found


@torch.inference_mode()
def forward_seconds(model: Prior, condition: Condition, batch: int, device: str) -> float:
    """All logits of a batch of known codes."""
    codes = torch.randint(K, (batch, GRID, GRID), generator=torch.Generator().manual_seed(0)).to(device)
    placed = condition.to(torch.device(device))
    return median_seconds(lambda: model(codes, placed), repeat=3, device=device)
