"""Memory at full resolution: of the quantizer, and of a training step."""

from __future__ import annotations

import torch

from benchmarks.speed.row import GB, Memory, Options, Row, measured_memory
from benchmarks.speed.stages import packed_phantoms, vqvae_stage
from vqvae_dist.models.quantizer import Quantizer

SIDE = 1024


def rows(options: Options) -> list[Row]:
    """Peak memory of both."""
    limit = "< 6 GB" if options.device == "cpu" else "< 8 GB"
    step = training_step(options)
    value = step.peak / GB
    return [
        quantizer_row(options),
        Row(f"training at {SIDE}x{SIDE}, batch 1, recomputation", value, "GB", "-", None, None, limit),
    ]


def quantizer_row(options: Options) -> Row:
    """A forward pass with statistics over B=16 maps of 256x256, D=64, K=512."""
    B, D, K, side = 16, 64, 512, SIDE // 4
    quantizer = Quantizer(K, D, init="normal").to(options.device)
    with torch.no_grad():
        # channels_last is what the encoder gives; a first call loads what is loaded once.
        z_e = torch.randn(B, D, side, side, device=options.device).to(memory_format=torch.channels_last)
        keys = torch.arange(B, device=options.device)
        quantizer(z_e[:1, :, :8, :8].contiguous(memory_format=torch.channels_last), keys[:1], 0)
        with measured_memory(options.device) as memory:
            output = quantizer(z_e, keys, 0)
    outputs = sum(tensor.numel() * tensor.element_size() for tensor in (output.z_q, output.codes))
    naive = B * side * side * K * 4
    value = (memory.above - outputs) / GB
    name = f"quantizer beyond inputs and outputs, {SIDE}x{SIDE}, B={B}, K={K}"
    return Row(name, value, "GB", "one (cells x K) matrix", naive / GB, naive / GB / value, "< 0.3")


def training_step(options: Options) -> Memory:
    """Two steps of the best preset on whole slices, activations recomputed, uncompiled."""
    data = packed_phantoms(options.work, subjects=6, slices=2, size=SIDE)
    settings = {"schedule.batch_size": 1, "data.crop": 0, "precision.compile": "off"}
    settings |= {"precision.activation_checkpointing": True, "precision.mixed": "no"}
    stage = vqvae_stage(data, options.work / "memory", settings)
    with measured_memory(options.device) as memory:
        for step, batch in zip(range(20, 22), stage.batches(range(20, 22)), strict=True):
            stage.train_step(step, batch)
    return memory
