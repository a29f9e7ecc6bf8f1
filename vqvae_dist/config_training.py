"""The settings that both trainings share: optimizer, schedule, precision, checkpoints, tracking, processes."""

from __future__ import annotations

from typing import Annotated, Literal

from data_tools.flags import empty_means
from vqvae_dist.config_base import (
    MOST,
    Emptiable,
    RunPath,
    below_one,
    check,
    config,
    not_negative,
    positive,
    younger,
)


@config
class OptimConfig:
    """AdamW with warm-up and a multi-step decay, in optimizer steps."""

    lr: float = 1e-3
    """Learning rate after the warm-up and before the first milestone."""

    milestones: tuple[int | float, ...] = (0.65, 0.9)
    """Where ``lr`` is multiplied by ``gamma``: optimizer steps, or shares of ``schedule.steps``."""

    gamma: float = 0.1
    """Factor at each milestone."""

    warmup: int | float = 0
    """Steps over which ``lr`` rises linearly from 0: optimizer steps, or a share of ``schedule.steps``."""

    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW; never applied to biases, normalisations and codes."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of AdamW's first and second moments."""

    gradient_clip: float = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""

    def __post_init__(self) -> None:
        positive("optim.lr", self.lr)
        positive("optim.gamma", self.gamma)
        not_negative("optim.weight_decay", self.weight_decay)
        not_negative("optim.gradient_clip", self.gradient_clip)
        for beta in self.betas:
            below_one("optim.betas", beta)
        for milestone in self.milestones:
            check(
                _is_step(milestone),
                "optim.milestones",
                milestone,
                "whole steps from 1, or shares between 0 and 1",
            )
        check(
            self.warmup == 0 or _is_step(self.warmup),
            "optim.warmup",
            self.warmup,
            "0, whole steps, or a share",
        )
        if len({type(milestone) for milestone in self.milestones}) == 1:
            rising = all(a < b for a, b in zip(self.milestones, self.milestones[1:], strict=False))
            check(rising, "optim.milestones", self.milestones, "rising")


def _is_step(value: int | float) -> bool:
    return 1 <= value <= MOST if isinstance(value, int) else 0 < value < 1


@config
class ScheduleConfig:
    """How long is trained, and what happens how often; all in optimizer steps."""

    steps: int = 1000
    """Optimizer steps in all."""

    batch_size: int = 8
    """Slices an optimizer step, over all processes."""

    micro_batch_size: int = 0
    """Slices a forward pass on one process; 0 takes a process's whole share at once."""

    log_every: int = 20
    """Steps between rows of train/ metrics."""

    validate_every: int = 250
    """Steps between validations."""

    image_every: int = 500
    """Steps between pictures of reconstructions or samples."""

    checkpoint_every: int = 250
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "validate_every", "image_every", "checkpoint_every"):
            positive(f"schedule.{name}", getattr(self, name))
        not_negative("schedule.micro_batch_size", self.micro_batch_size)


@config
class PrecisionConfig:
    """Arithmetic and compilation. The quantizer always computes in float32."""

    mixed: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Autocast of the networks; auto: bf16 where it is fast, else no. fp16 needs CUDA."""

    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto: only where the remaining steps repay it."""

    tf32: bool = False
    """Allow TF32 in float32 matrix products and convolutions on CUDA."""

    deterministic: bool = younger(default=False)
    """Only GPU kernels that give the same bits every time: slower. On CPU a run is repeated bit for bit without it."""

    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""


@config
class CheckpointConfig:
    """What is kept of a run."""

    keep_last: int = 2
    """Newest checkpoints kept, beside the best one."""

    best_metric: Emptiable = ""
    """A validate/ metric, with "max " or "min " before it, whichever is better; empty takes the stage's own."""

    def __post_init__(self) -> None:
        check(
            self.keep_last >= 2,
            "checkpoint.keep_last",
            self.keep_last,
            "2 or more (the newest may be damaged)",
        )


@config
class TrackingConfig:
    """W&B; metrics.jsonl is written whatever the mode."""

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: online where a key is there and the server answers within seconds, else offline."""

    project: str = "brain-vqvae"
    """W&B project."""

    entity: Emptiable = ""
    """W&B entity (team or user); empty takes the account's default."""

    group: Emptiable = ""
    """W&B group; a sweep sets its name."""

    tags: Annotated[tuple[str, ...], empty_means("none")] = ()
    """W&B tags."""


@config
class RuntimeConfig:
    """Processes."""

    collective_timeout_s: int = 300
    """Seconds after which a collective that not all processes reach ends the run."""

    hang_timeout_s: int = 60
    """Seconds without a sign of life after which a process counts as hung, and the run ends to be started again."""

    def __post_init__(self) -> None:
        positive("runtime.collective_timeout_s", self.collective_timeout_s)
        positive("runtime.hang_timeout_s", self.hang_timeout_s)


@config
class TrainConfig:
    """What both trainings share."""

    seed: int = 0
    """Of everything random: weights, order, crops, dropout, revival."""

    output_dir: RunPath = ""
    """The run folder."""

    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    precision: PrecisionConfig = PrecisionConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def __post_init__(self) -> None:
        check(0 <= self.seed < 2**63, "seed", self.seed, "from 0 to 2^63 - 1")
        steps = list(self.milestones)
        check(steps == sorted(steps), "optim.milestones", self.optim.milestones, f"rising; in steps they are {steps}")

    @property
    def milestones(self) -> tuple[int, ...]:
        """``optim.milestones`` in optimizer steps."""
        return tuple(to_steps(milestone, self.schedule.steps) for milestone in self.optim.milestones)

    @property
    def warmup(self) -> int:
        """``optim.warmup`` in optimizer steps."""
        return to_steps(self.optim.warmup, self.schedule.steps)

    @property
    def idle(self) -> frozenset[str]:
        """The settings, flat, that change nothing beside the others."""
        return frozenset()

    @property
    def kind_text(self) -> str:
        """The setting that decides what is ``idle``, with its value: ``model.quantizer.kind fsq``."""
        return ""


def to_steps(value: int | float, steps: int) -> int:
    """A number of steps as it is; a share of ``steps`` rounded, at least 1 and before the last."""
    return value if isinstance(value, int) else max(1, min(round(value * steps), steps - 1))
