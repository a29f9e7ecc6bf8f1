"""A VQ-VAE's training step beside MONAI's VQVAE, and beside the same networks without a quantizer.

Both have PAPER's widths and numbers of residual layers. MONAI has these layers at each resolution and halves by strided
convolutions; ours has them at the lowest alone, and folds pixels into channels to come there. That is a fifth of the
arithmetic: a row says how much, and another is of ours with strided convolutions. The rows of MONAI's defaults are
measured with the C library as it is for whoever does not use the suite; in those of equal precision and compilation,
and beside the networks alone, freed memory is kept on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import MonaiPeer
from benchmarks.speed.row import Options, Row, median_seconds
from benchmarks.speed.stages import (
    PAPER,
    fast_precision,
    packed_phantoms,
    vqvae_stage,
    warmed,
    with_plain_malloc,
)
from vqvae_dist.config import VQVAEModelConfig
from vqvae_dist.models.nearest import FAST_LINEAR
from vqvae_dist.models.vqvae import Decoder, Encoder

SIZE = 256
BATCH = {"cpu": 8, "cuda": 64}
REPEAT = {"cpu": 5, "cuda": 30}
MATRIX = {"cpu": 2048, "cuda": 16384}
"""Sides of the matrices whose product is taken as the most that a device computes."""

STRIDED = {"model.stem": "strided", "model.upsample": "transpose"}

Step = Callable[[], object]


class Sides:
    """Both sides of the comparison, on the same batch of the same data."""

    def __init__(self, options: Options) -> None:
        self.device, self.folder = options.device, options.work
        self.batch = BATCH[self.device]
        self.data = packed_phantoms(self.folder, subjects=12, slices=8, size=SIZE)
        stage = vqvae_stage(self.data, self.folder / "batch", self.settings())
        self.model = stage.config.model
        self.images = next(stage.batches(range(1))).images.to(self.device)

    def settings(self, **further: Any) -> dict[str, Any]:
        """Of a training that does as much as the peer's."""
        plain = {"data.crop": 0, "data.augment": "none", "loss.ssim": 0.0}
        return {"schedule.batch_size": self.batch, **plain, **PAPER, **further}

    def rate(self, step: Step) -> float:
        """Slices a second."""
        return self.batch / median_seconds(step, repeat=REPEAT[self.device], warm=2, device=self.device)

    def our_step(self, mixed: str, *, compiled: bool, networks: Mapping[str, str] = MappingProxyType({})) -> Step:
        """A step of our training, as ``train-vqvae`` makes it; with other ``networks`` than the preset's."""
        chosen = {"precision.mixed": mixed, "precision.compile": "on" if compiled else "off", **networks}
        run = self.folder / "_".join(["step", mixed, str(compiled), *networks.values()])
        stage = vqvae_stage(self.data, run, self.settings(**chosen))
        images, quantizing = warmed(stage), stage.config.model.quantizer.init_after + 5
        return lambda: stage.train_step(quantizing, images)

    def monai_step(self, *, bf16: bool = False, compiled: bool = False, channels_last: bool = False) -> Step:
        """A step of MONAI's VQVAE."""
        torch.manual_seed(0)
        model = MonaiPeer(self.model, 0.5, exact=False).to(self.device)
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        if compiled:
            model.encoder.compile(dynamic=False)
            model.decoder.compile(dynamic=False)
        return peer_step(model, self.images, bf16=bf16)

    def alone_step(self, *, bf16: bool) -> Step:
        """A step of our networks with nothing between them."""
        return alone_step(self.model, self.images, bf16=bf16)


def rows(options: Options) -> list[Row]:
    """Slices a second of each side; every side trains on the same batch."""
    sides, device, fast = Sides(options), options.device, fast_precision(options.device)
    bf16, rate = fast == "bf16", sides.rate
    eager_step = sides.our_step("no", compiled=False)
    shipped, eager = rate(sides.our_step(fast, compiled=True)), rate(eager_step)
    plain, half = with_plain_malloc(monai_rates, options)
    equal_eager = rate(sides.monai_step())
    equal = rate(sides.monai_step(bf16=bf16, compiled=True, channels_last=True))
    strided = rate(sides.our_step(fast, compiled=True, networks=STRIDED))
    alone = rate(sides.alone_step(bf16=bf16))
    work, theirs = flops(eager_step), flops(sides.monai_step())
    reached, most = 1e-12 * work * shipped / sides.batch, 1e-12 * matrix_rate(device, fast)
    unit, config = "slices/s", f"{SIZE}x{SIZE}, batch {sides.batch}"
    return [
        Row(f"training step, as shipped ({fast}, compiled), {config}", shipped, unit, "MONAI VQVAE, float32", plain,
            shipped / plain, ">= 4" if device == "cpu" else "-"),
        Row(f"training step, as shipped ({fast}, compiled), {config}", shipped, unit, "MONAI VQVAE, bf16 channels-last",
            half, shipped / half, ">= 2"),
        Row(f"training step, float32, uncompiled, {config}", eager, unit, "MONAI VQVAE, float32, freed memory kept",
            equal_eager, eager / equal_eager, "-"),
        Row(f"training step, {fast}, compiled, {config}", shipped, unit,
            f"MONAI VQVAE, {fast}, compiled, freed memory kept", equal, shipped / equal, "-"),
        Row(f"training step, {fast}, compiled, strided convolutions, {config}", strided, unit,
            f"MONAI VQVAE, {fast}, compiled, freed memory kept", equal, strided / equal, "-"),
        Row(f"share of the step that is not the networks, {config}", 1 - shipped / alone, "",
            "the same networks without quantizer, slices/s", alone, shipped / alone, "<= 0.15"),
        Row(f"arithmetic of a slice's training step, {config}", 1e-9 * work / sides.batch, "GFLOP",
            "MONAI VQVAE", 1e-9 * theirs / sides.batch, theirs / work, "-"),
        Row(f"arithmetic of the training step as shipped, {config}", reached, "TFLOP/s",
            f"one product of {MATRIX[device]}x{MATRIX[device]} matrices, {fast}", most, reached / most, "-"),
    ]  # fmt: skip


def monai_rates(options: Options) -> tuple[float, float]:
    """Slices a second of MONAI's VQVAE in float32, and in bfloat16 and channels-last."""
    sides = Sides(replace(options, work=options.work / "monai"))
    return sides.rate(sides.monai_step()), sides.rate(sides.monai_step(bf16=True, channels_last=True))


def flops(step: Step) -> float:
    """Floating-point operations of the convolutions and matrix products of an uncompiled step."""
    known = {torch.ops.mkldnn._linear_pointwise: product_flops} if FAST_LINEAR else {}
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        step()
    return float(counter.get_total_flops())


def product_flops(rows: tuple[int, int], codes: tuple[int, int], *_: object, **__: object) -> int:
    """Of the search for the nearest codes, from the shapes of its factors, (N, D) and (K, D)."""
    return 2 * rows[0] * rows[1] * codes[0]


def matrix_rate(device: str, precision: str) -> float:
    """Floating-point operations a second of one large matrix product."""
    side, dtype = MATRIX[device], torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2.0 * side**3 / median_seconds(lambda: a @ b, repeat=REPEAT[device], warm=2, device=device)


def peer_step(model: nn.Module, images: Tensor, *, bf16: bool) -> Step:
    """Forward, backward and AdamW with the peer's own quantization loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            output: Any = model(images)
            loss = F.mse_loss(output.reconstruction, images) + output.codebook
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def alone_step(config: VQVAEModelConfig, images: Tensor, *, bf16: bool) -> Step:
    """Our encoder and decoder, compiled, with nothing between them: the most a step could reach."""
    torch.manual_seed(0)
    shape = (config.hidden, config.residual_layers, config.residual_hidden, config.downsample, config.code_dim)
    encoder, decoder = Encoder(*shape, config.norm, config.stem), Decoder(*shape, config.norm, config.upsample)
    model = nn.Sequential(encoder, decoder).to(images.device).to(memory_format=torch.channels_last)
    for part in model:
        part.compile(dynamic=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss = F.mse_loss(model(images).float(), images)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step
