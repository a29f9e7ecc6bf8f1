"""A VQ-VAE's training step beside MONAI's VQVAE, and beside the same networks without a quantizer.

Both have PAPER's widths and numbers of residual layers; MONAI has these layers at each resolution and not at the
lowest alone, which is about twice the arithmetic: a row says how much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import MonaiPeer
from benchmarks.speed.row import Options, Row, median_seconds
from benchmarks.speed.stages import PAPER, fast_precision, packed_phantoms, vqvae_stage, warmed
from vqvae_dist.config import VQVAEModelConfig
from vqvae_dist.models.vqvae import Decoder, Encoder

SIZE = 256
BATCH = {"cpu": 8, "cuda": 64}
REPEAT = {"cpu": 5, "cuda": 30}
MATRIX = {"cpu": 2048, "cuda": 16384}
"""Sides of the matrices whose product is taken as the most that a device computes."""

Step = Callable[[], object]


def rows(options: Options) -> list[Row]:
    """Slices a second of each side; every side trains on the same batch."""
    device, batch = options.device, BATCH[options.device]
    fast = fast_precision(device)
    data = packed_phantoms(options.work, subjects=12, slices=8, size=SIZE)

    def rate(step: Step) -> float:
        return batch / median_seconds(step, repeat=REPEAT[device], warm=2, device=device)

    def ours(mixed: str, *, compiled: bool) -> tuple[float, float]:
        settings = {"schedule.batch_size": batch, "data.crop": 0, "loss.ssim": 0.0, "data.augment": "none", **PAPER}
        settings |= {"precision.mixed": mixed, "precision.compile": "on" if compiled else "off"}
        stage = vqvae_stage(data, options.work / f"step_{mixed}_{compiled}", settings)
        images = warmed(stage)

        def step() -> object:
            return stage.train_step(stage.config.model.quantizer.init_after + 5, images)

        return rate(step), 0.0 if compiled else flops(step)

    stage = vqvae_stage(data, options.work / "batch", {"schedule.batch_size": batch, "data.crop": 0, **PAPER})
    images = next(stage.batches(range(1))).images.to(device)

    def monai_model() -> MonaiPeer:
        torch.manual_seed(0)
        return MonaiPeer(stage.config.model, 0.5, exact=False).to(device)

    def monai(bf16: bool, *, compiled: bool = False, channels_last: bool = False) -> float:
        model = monai_model()
        if channels_last:
            model = model.to(memory_format=torch.channels_last)
        if compiled:
            model.encoder.compile(dynamic=False)
            model.decoder.compile(dynamic=False)
        return rate(peer_step(model, images, bf16=bf16))

    (shipped, _), plain = ours(fast, compiled=True), monai(False)
    (eager, work), half = ours("no", compiled=False), monai(True, channels_last=True)
    equal = monai(fast == "bf16", compiled=True, channels_last=True)
    alone = rate(alone_step(stage.config.model, images, bf16=fast == "bf16"))
    theirs = flops(peer_step(monai_model(), images, bf16=False))
    reached, most = 1e-12 * work * shipped / batch, 1e-12 * matrix_rate(device, fast)
    unit, config = "slices/s", f"{SIZE}x{SIZE}, batch {batch}"
    return [
        Row(f"training step, as shipped ({fast}, compiled), {config}", shipped, unit, "MONAI VQVAE, float32", plain,
            shipped / plain, ">= 4" if device == "cpu" else "-"),
        Row(f"training step, as shipped ({fast}, compiled), {config}", shipped, unit, "MONAI VQVAE, bf16 channels-last",
            half, shipped / half, ">= 2"),
        Row(f"training step, float32, uncompiled, {config}", eager, unit, "MONAI VQVAE, float32", plain, eager / plain,
            "-"),
        Row(f"training step, {fast}, compiled, {config}", shipped, unit, f"MONAI VQVAE, {fast}, compiled", equal,
            shipped / equal, "-"),
        Row(f"share of the step that is not the networks, {config}", 1 - shipped / alone, "",
            "the same networks without quantizer, slices/s", alone, shipped / alone, "<= 0.15"),
        Row(f"arithmetic of a slice's training step, {config}", 1e-9 * work / batch, "GFLOP",
            "MONAI VQVAE", 1e-9 * theirs / batch, theirs / work, "-"),
        Row(f"arithmetic of the training step as shipped, {config}", reached, "TFLOP/s",
            f"one product of {MATRIX[device]}x{MATRIX[device]} matrices, {fast}", most, reached / most, "-"),
    ]  # fmt: skip


def flops(step: Step) -> float:
    """Floating-point operations of the convolutions and matrix products of an uncompiled step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


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
    encoder, decoder = Encoder(*shape, config.norm), Decoder(*shape, config.norm, config.upsample)
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
