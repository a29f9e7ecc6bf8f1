"""A run from its opening to its end: build the stage, take up the newest checkpoint, train, and leave in good order."""

from __future__ import annotations

from collections.abc import Callable

from data_tools.console import CommandError, counted, first_line, say, warn
from vqvae_dist.config import TrainConfig
from vqvae_dist.run_folder import PeerEndedError, RunFolder
from vqvae_dist.training.checkpoint import Checkpoints
from vqvae_dist.training.finale import make_up, show_result
from vqvae_dist.training.loop import OUT_OF_MEMORY, Loop
from vqvae_dist.training.progress import note_end, write_summary
from vqvae_dist.training.runtime import peer_ended
from vqvae_dist.training.session import Session
from vqvae_dist.training.stage import Stage
from vqvae_dist.training.state import restore
from vqvae_dist.training.stop import stop_requested
from vqvae_dist.training.tracking import Tracker

PEER_ENDED = "another process of this training ended (see its own message)"


def run_stage(config: TrainConfig, session: Session, build: Callable[[Session], Stage]) -> str:
    """Train until ``schedule.steps`` or a stop; return ``completed`` or ``stopped``."""
    run, runtime = session.run, session.runtime
    if session.completed:
        if runtime.is_main:
            make_up(run, Checkpoints(run, keep_last=config.checkpoint.keep_last, of=session.name))
            run.check_metrics()
            steps = counted(config.schedule.steps, "step")
            say(f"{run.path}: completed already, {steps}; larger schedule.steps extends it")
        runtime.close()
        return "completed"
    state = "failed"
    loop: Loop | None = None
    try:
        loop = open_loop(config, session, build)
        while (state := loop.run()) == OUT_OF_MEMORY:
            warning = session.halve_micro_batch(config.schedule, loop.progress.step)
            loop.tracker.finish("stopped")
            loop = None  # its model, optimizer and batches go before others come
            runtime.accelerator.free_memory()
            loop = open_loop(config, session, build)
            loop.announce(warning)
    except Exception as error:
        lost = runtime.processes > 1 and peer_ended(error)
        state = "stopped" if broken_off(error) and not lost else "failed"
        if session.owner:
            note_end(session, config, loop.progress if loop else None, state, PEER_ENDED if lost else str(error))
        if state == "failed" and lost:
            raise PeerEndedError(PEER_ENDED) from error
        if state == "failed":
            raise
        if runtime.is_main:
            at = f"in step {loop.progress.step}" if loop else "before the first step"
            warn(f"stopped {at} ({first_line(error)}); the same command goes on from its checkpoint")
    finally:
        runtime.close()
        if loop:
            if state == "completed" and session.owner:
                show_result(loop.stage, session, loop.tracker, step=config.schedule.steps)
            loop.tracker.finish(state)
    return state


def broken_off(error: Exception) -> bool:
    """Whether something broke because a stop was asked for, not by itself.

    Ctrl-C, ``timeout`` and some clusters ask every process there is, and a compiler at work just ends.
    """
    return stop_requested() and not isinstance(error, CommandError)


def rows_are_there(run: RunFolder, step: int, every: int) -> bool:
    """Whether metrics.jsonl goes as far as a checkpoint of ``step``, where no summary notes it; say so if not."""
    if step == 0 or run.summary_file.is_file():
        return True
    last = max((row["global_step"] for row in run.read_metrics() if row["global_step"] <= step), default=0)
    if last + every > step:
        return True
    warn(f"{run.metrics_file}: rows are missing between step {last} and the checkpoint of step {step}")
    return False


def open_loop(config: TrainConfig, session: Session, build: Callable[[Session], Stage]) -> Loop:
    """Build the stage and take up the newest checkpoint, or begin."""
    stage = build(session)
    checkpoints = Checkpoints(session.run, keep_last=config.checkpoint.keep_last, of=session.name)
    progress = restore(stage, checkpoints, session)
    if session.owner:
        agree = session.run.check_metrics() and rows_are_there(session.run, progress.step, config.schedule.log_every)
        progress.metrics_damaged = progress.step > 0 and (progress.metrics_damaged or not agree)
        write_summary(config, session, progress, "running")  # it says which rows count before others are cut
        session.owner.check()
    tracker = Tracker(
        session.run,
        config,
        identity=session.identity,
        resume_step=progress.step,
        attempt=session.attempt,
        active=session.runtime.is_main,
    )
    return Loop(config, session, stage, checkpoints, tracker, progress)
