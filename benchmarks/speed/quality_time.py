"""Seconds from the start of a training to a held-out foreground SSIM, ours beside MONAI's VQVAE.

Both train on the same crops with the same loss, optimizer, learning rate and warm-up, with the same widths and numbers
of layers, in the precision that is fast on this machine; validation stops the clock. Steps of 2 crops of 96 pixels are
good for either, and averaged weights are scored on both sides. Each side is trained compiled and uncompiled, the peer
with each of DECAYS of its codebook (quick: compiled, its default decay), and the earliest arrival at each threshold
counts. A training of the peer gets PATIENCE times what ours took to the last threshold, and is given up sooner when
STALE of that passed without a better score. Where none has arrived by then the ratio is a lower bound, and the row says
how far the best one came.

The peer is trained with the C library as it is for whoever does not use the suite; further rows are of the way that was
best, trained again with freed memory kept, as the suite's own trainings keep it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.peers import MonaiPeer, peer_optimizer
from benchmarks.speed.row import Options, Row
from benchmarks.speed.stages import fast_precision, vqvae_stage, with_plain_malloc
from vqvae_dist.training.losses import vqvae_losses
from vqvae_dist.training.optim import lr_at
from vqvae_dist.training.vqvae import VQVAEStage
from vqvae_dist.training.vqvae_validation import scoring

THRESHOLDS = {True: (0.86,), False: (0.86, 0.90, 0.92)}
"""By whether the benchmark is quick."""
STEPS = 4000
"""What ours is given for the last threshold."""
EVERY = 100
"""Steps between validations."""
PATIENCE = 8.0
STALE = 0.7
"""A collapsed codebook does not come back."""
DECAYS = {True: (0.5,), False: (0.5, 0.99)}
"""Of the peer's codebook: its default, and ours."""
COMPILED = {True: (True,), False: (True, False)}
"""Of the peer; ours is always tried both ways."""
BOTH = {"model.residual_layers": 2, "model.ema": 0.98, "data.crop": 96, "schedule.batch_size": 2}
"""As many layers as in the comparison of steps: fewer make a step cheaper, for the peer at each resolution."""


class Way(NamedTuple):
    """How the peer is trained."""

    decay: float
    compiled: bool

    def __str__(self) -> str:
        return f"{'compiled' if self.compiled else 'uncompiled'}, decay {self.decay:g}"


def rows(options: Options) -> list[Row]:
    """A row for each threshold, and one with the suite's memory for the peer too; needs real slices."""
    if options.data is None:
        raise RuntimeError("needs --data, packed real slices")
    quick, data = options.quick, options.data
    ours = earliest(reached(options, data, compiled=compiled) for compiled in (True, False))
    if not ours:
        raise RuntimeError(f"no foreground SSIM of {min(THRESHOLDS[quick])} in {STEPS} steps on these slices")
    limit = PATIENCE * max(ours.values())
    ways = [Way(*chosen) for chosen in product(DECAYS[quick], COMPILED[quick])]
    peers = {way: with_plain_malloc(peer_reached, options, way, limit) for way in ways}
    name = f"MONAI VQVAE, {precision_name(options)}"
    found = beside(ours, peers, name)
    best = min(peers, key=lambda way: (-len(peers[way].arrived), max(peers[way].arrived.values(), default=limit)))
    again = peer_reached(replace(options, work=options.work / "kept"), best, limit)
    return found + beside(ours, {best: again}, f"{name}, freed memory kept")


def beside(ours: dict[float, float], peers: dict[Way, PeerReached], name: str) -> list[Row]:
    """A row for each threshold, with the peer's way that was there first."""
    best, waited = max(peer.best for peer in peers.values()), max(peer.seconds for peer in peers.values())
    found = []
    for threshold, seconds in ours.items():
        arrived = {way: peer.arrived[threshold] for way, peer in peers.items() if threshold in peer.arrived}
        first = min(arrived, key=lambda way: arrived[way], default=None)
        there = waited if first is None else arrived[first]
        peer = f"{name}: at {best:.3f} when it was stopped" if first is None else f"{name}, {first}"
        what = f"time to foreground SSIM {threshold:.2f} (validate)"
        found.append(Row(what, seconds, "s", peer, there, there / seconds, ">= 5"))
    return found


def precision_name(options: Options) -> str:
    """How the fast precision is called in a row."""
    return {"bf16": "bf16", "no": "float32"}[fast_precision(options.device)]


def earliest(trainings: Iterable[dict[float, float]]) -> dict[float, float]:
    """Seconds to each threshold that any training passed, of the one that was there first."""
    first: dict[float, float] = {}
    for arrived in trainings:
        for threshold, seconds in arrived.items():
            first[threshold] = min(seconds, first.get(threshold, seconds))
    return dict(sorted(first.items()))


def reached(options: Options, data: Path, *, compiled: bool) -> dict[float, float]:
    """Seconds of ours to each threshold, compilation included, validation left out; from the best preset."""
    began = time.perf_counter()
    precision = {"precision.mixed": fast_precision(options.device), "precision.compile": "on" if compiled else "off"}
    settings = {**precision, **BOTH, "schedule.steps": STEPS}
    stage = vqvae_stage(data, options.work / f"ours_{compiled}", settings)
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


def peer_reached(options: Options, way: Way, limit: float) -> PeerReached:
    """Train the peer for at most ``limit`` seconds."""
    assert options.data is not None
    settings = {"precision.mixed": "no", **BOTH}
    stage = vqvae_stage(options.data, options.work / "peer_{}_{}".format(*way), settings)
    torch.manual_seed(0)
    model = MonaiPeer(stage.config.model, way.decay).to(options.device).to(memory_format=torch.channels_last)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(BOTH["model.ema"]), use_buffers=True)
    if way.compiled:
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
        averaged.update_parameters(model)
        seconds = time.perf_counter() - began - paused
        if (step + 1) % EVERY == 0 or seconds > limit:
            now = time.perf_counter()
            score = validated(stage, averaged.module)
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
