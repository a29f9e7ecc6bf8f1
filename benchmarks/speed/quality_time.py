"""Seconds from the start of a training to a held-out foreground SSIM, ours beside MONAI's VQVAE.

Both train on the same crops with the same loss, optimizer, learning rate and warm-up, compiled, with the same widths
and numbers of layers, in the precision that is fast on this machine; validation stops the clock. The peer is trained
with each of DECAYS of its codebook (quick: its default alone), and the better one counts; each gets PATIENCE times what
ours took to the first threshold, and is given up sooner when STALE of that passed without a better score. Where none
has arrived by then the ratio is a lower bound, and the row says how far the better one came.
"""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.peers import MonaiPeer, peer_optimizer
from benchmarks.speed.row import Options, Row
from benchmarks.speed.stages import fast_precision, vqvae_stage
from vqvae_dist.training.losses import vqvae_losses
from vqvae_dist.training.optim import lr_at
from vqvae_dist.training.vqvae import VQVAEStage
from vqvae_dist.training.vqvae_validation import scoring

THRESHOLDS = {True: (0.86,), False: (0.86, 0.90, 0.92)}
"""By whether the benchmark is quick."""
STEPS = 1000
EVERY = 50
PATIENCE = {True: 3.0, False: 25.0}
STALE = 0.2
"""A collapsed codebook does not come back."""
DECAYS = {True: (0.5,), False: (0.5, 0.99)}
"""Of the peer's codebook: its default, and ours."""


def rows(options: Options) -> list[Row]:
    """A row for each threshold; needs real slices."""
    if options.data is None:
        raise RuntimeError("needs --data, packed real slices")
    ours = reached(options, options.data)
    limit = PATIENCE[options.quick] * min(ours.values())
    peers = [peer_reached(options, options.data, decay, limit) for decay in DECAYS[options.quick]]
    best, waited = max(peer.best for peer in peers), max(peer.seconds for peer in peers)
    precision = {"bf16": "bf16", "no": "float32"}[fast_precision(options.device)]
    found = []
    for threshold in THRESHOLDS[options.quick]:
        if threshold not in ours:
            continue
        arrivals = [peer.arrived[threshold] for peer in peers if threshold in peer.arrived]
        there = min(arrivals, default=waited)
        peer = f"MONAI VQVAE, {precision}" + ("" if arrivals else f": at {best:.3f} when it was stopped")
        name = f"time to foreground SSIM {threshold:.2f} (validate)"
        found.append(Row(name, ours[threshold], "s", peer, there, there / ours[threshold], ">= 5"))
    return found


def reached(options: Options, data: Path) -> dict[float, float]:
    """Seconds of ours to each threshold, compilation included, validation left out; from the best preset."""
    began = time.perf_counter()
    settings = {"precision.mixed": fast_precision(options.device), "precision.compile": "on", "schedule.steps": STEPS}
    stage = vqvae_stage(data, options.work / "quality", settings)
    found: dict[float, float] = {}
    paused = 0.0
    for step, batch in zip(range(STEPS), stage.batches(range(STEPS)), strict=True):
        stage.train_step(step, batch)
        if (step + 1) % EVERY == 0:
            now = time.perf_counter()
            note(found, options, stage.validate().get("ssim_foreground") or 0.0, now - began - paused)
            paused += time.perf_counter() - now
        if len(found) == len(THRESHOLDS[options.quick]):
            break
    return found


def note(found: dict[float, float], options: Options, score: float, seconds: float) -> None:
    """Write down when a threshold was passed first."""
    for threshold in THRESHOLDS[options.quick]:
        if score >= threshold:
            found.setdefault(threshold, seconds)


class PeerReached(NamedTuple):
    """How far a peer came."""

    best: float
    """Its best score."""
    seconds: float
    """Until it was stopped."""
    arrived: dict[float, float]
    """Seconds to each threshold."""


def peer_reached(options: Options, data: Path, decay: float, limit: float) -> PeerReached:
    """Train the peer with this decay for at most ``limit`` seconds."""
    stage = vqvae_stage(data, options.work / f"peer_{decay}", {"precision.mixed": "no", "schedule.steps": STEPS})
    torch.manual_seed(0)
    model = MonaiPeer(stage.config.model, decay).to(options.device).to(memory_format=torch.channels_last)
    model.encoder.compile(dynamic=False)
    model.decoder.compile(dynamic=False)
    optimizer = peer_optimizer(model, stage.config)
    precision = fast_precision(options.device)
    found: dict[float, float] = {}
    best, rose, seconds, paused, began = 0.0, 0.0, 0.0, 0.0, time.perf_counter()
    for step, batch in zip(count(), stage.batches(range(10**6)), strict=False):
        images = batch.images.to(options.device)
        for group in optimizer.param_groups:
            group["lr"] = lr_at(step, stage.config.optim, (), stage.config.warmup)
        with torch.autocast(options.device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            output = model(images)
        optimizer.zero_grad()
        vqvae_losses(images, output, stage.config.loss, 0.0).total.backward()
        optimizer.step()
        seconds = time.perf_counter() - began - paused
        if (step + 1) % EVERY == 0 or seconds > limit:
            now = time.perf_counter()
            score = validated(stage, model)
            best, rose = max((score, seconds), (best, rose))
            note(found, options, score, seconds)
            paused += time.perf_counter() - now
        if seconds > limit or seconds - rose > STALE * limit or len(found) == len(THRESHOLDS[options.quick]):
            break
    return PeerReached(best, seconds, found)


def validated(stage: VQVAEStage, model: nn.Module) -> float:
    """Foreground SSIM over the validate split, at whole size, which is not worth compiling for."""
    with torch.compiler.set_stance("force_eager"), scoring(model) as scored:
        return stage.validation.scores(scored)["ssim_foreground"] or 0.0  # type: ignore[arg-type]  # a Peer looks like ours
