"""The tensors of a training, to a checkpoint and back; and the export of its best weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from data_tools.console import say, warn
from vqvae_dist.training.checkpoint import (
    Checkpoint,
    Checkpoints,
    DamagedError,
    export_model,
    exported_step,
    verify_checkpoint,
)
from vqvae_dist.training.progress import Progress
from vqvae_dist.training.runtime import Runtime
from vqvae_dist.training.session import Session
from vqvae_dist.training.stage import Stage


def state_parts(stage: Stage) -> dict[str, dict[str, Tensor]]:
    """All tensors of a training, by part."""
    optimizer: dict[str, Tensor] = {}
    for number, values in stage.optimizer.state_dict()["state"].items():
        optimizer |= {f"{number}.{name}": value for name, value in values.items()}
    parts = {"model": stage.model.state_dict(), "optimizer": optimizer}
    parts |= {"averaged": stage.averaged.state_dict()} if stage.averaged else {}
    return parts | ({"memory": stage.memory} if stage.memory else {})


def restore(stage: Stage, checkpoints: Checkpoints, session: Session) -> Progress:
    """Take up the newest good checkpoint on all processes; return where it was."""
    runtime = session.runtime
    step = -1
    if session.owner:
        session.owner.check()  # so may building what is trained
        checkpoints.clear_staging()
        newest = checkpoints.newest_step()
        session.owner.check()  # reading may take long
        step = -1 if newest is None else newest
        if step < 0:
            checkpoints.settle(step, best=None)
    step = int(runtime.sum(torch.tensor(float(step if runtime.is_main else 0), device=runtime.device)).item())
    if step < 0:
        return Progress()
    checkpoint = checkpoints.load(step)
    load_parts(stage, checkpoint)
    if scaler := runtime.accelerator.scaler:
        scaler.load_state_dict(checkpoint.values["scaler"])
    progress = Progress(**checkpoint.values["progress"])
    if session.owner:
        session.owner.check()
        say(f"going on from step {step}")
        checkpoints.settle(step, best=progress.best["step"] if progress.best else None)
        repair_export(stage, checkpoints, session, progress)
    runtime.barrier()
    return progress


def load_parts(stage: Stage, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's tensors where they belong."""
    stage.model.load_state_dict(checkpoint.tensors["model"])
    if stage.averaged:
        stage.averaged.load_state_dict(checkpoint.tensors["averaged"])
    for name, tensor in checkpoint.tensors.get("memory", {}).items():
        stage.memory[name].copy_(tensor)
    parameters = [parameter for group in stage.optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.get("optimizer", {}).items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = laid_out_like(parameters[int(number)], tensor)
    groups = stage.optimizer.state_dict()["param_groups"]
    stage.optimizer.load_state_dict({"state": state, "param_groups": groups})


def laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """``tensor`` with the memory layout of ``parameter`` where their shapes agree.

    Fused AdamW walks weights and moments in memory order: row-major moments beside a channels_last weight would be
    taken for other elements' without an error.
    """
    if tensor.shape != parameter.shape:
        return tensor.clone()  # a step count; what was read from a checkpoint is a view of its file
    return torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)


def weights_agree(stage: Stage, runtime: Runtime) -> bool:
    """Whether all processes hold the same weights, by their sum in float64; every process calls it."""
    sums = [tensor.double().sum() for tensor in stage.model.state_dict().values()]
    slots = runtime.gather_slots(torch.stack(sums).sum())
    return bool((slots == slots[0]).all())


def scaler_state(session: Session) -> dict[str, Any]:
    """The float16 loss scaler's numbers; empty without one."""
    scaler = session.runtime.accelerator.scaler
    return scaler.state_dict() if scaler else {}


def export_best(stage: Stage, session: Session, step: int) -> None:
    """Write the weights that are scored, averaged where weights are averaged, to model/."""
    assert session.owner is not None
    scored = stage.averaged.module if stage.averaged else stage.model
    export_model(session.run, scored.state_dict(), exported_description(stage, session, step), session.owner)


def exported_description(stage: Stage, session: Session, step: int) -> dict[str, Any]:
    """What model/config.json says: enough to build the model and to know where it comes from."""
    names = ("schema", "stage", "run_id", "fingerprint", "data_digest")
    settings = session.identity["settings"]
    return {
        **{name: session.identity[name] for name in names},
        "step": step,
        "model": settings["model"],
        **stage.description(),
    }


def repair_export(stage: Stage, checkpoints: Checkpoints, session: Session, progress: Progress) -> None:
    """Write model/ again where a kill came between a best checkpoint and its export, or where it is damaged."""
    if progress.best is None:
        return
    step = int(progress.best["step"])
    if exported_step(session.run, session.identity["run_id"]) == step:
        return
    assert session.owner is not None
    try:
        verify_checkpoint(session.run.checkpoint(step), of=session.name)
    except DamagedError as error:
        warn(f"{error}; the best weights, of step {step}, can't be exported to {session.run.model} again")
        return
    best = checkpoints.load(step)
    prefix = "module."
    weights = best.tensors["model"]
    if "averaged" in best.tensors:
        averaged = best.tensors["averaged"].items()
        weights = {key.removeprefix(prefix): value for key, value in averaged if key.startswith(prefix)}
    export_model(session.run, weights, exported_description(stage, session, step), session.owner)
