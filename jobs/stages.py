"""Running a stage of the pipeline inside its job: on the chosen member, skipping what is done already."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from data_tools.console import CommandError, say
from data_tools.staging import STAGING
from jobs.collect import choose_best, write_best
from jobs.config import Settings
from jobs.data_digest import data_digest
from jobs.folder import Plan, SweepFolder, read_member_settings, to_toml, write_file_once
from jobs.pipeline import TRAIN_PRIOR, PipelineFolder, PipelineStage, command_line, compose_prior, stage_key
from jobs.report import write_report
from vqvae_dist.config import PixelCNNConfig
from vqvae_dist.config_io import changed_settings, flatten, nest, to_json
from vqvae_dist.files import write_json
from vqvae_dist.run_folder import RunFolder


def run_stage(folder: SweepFolder, plan: Plan, stage: PipelineStage, *, run: Callable[[list[str]], str]) -> str:
    """Run a stage; ``run`` does a ``vqvae_dist`` command and returns ``completed`` or ``stopped``.

    The first stage chooses the member that all of them work on.
    """
    if stage == plan.pipeline[0]:
        write_best(folder, choose_best(folder, plan))
    if stage.name == "report":
        write_report(folder, plan)
        return "completed"
    chosen = folder.read_choice()
    if chosen is None:
        raise CommandError(f"{folder.best_file}: missing; `python -m jobs best` chooses a member")
    target = folder.pipeline(chosen)
    target.path.mkdir(parents=True, exist_ok=True)
    vqvae = folder.run(chosen).path
    if stage.name == TRAIN_PRIOR:
        member = nest(read_member_settings(folder, [chosen])[chosen])
        return run(_prior_command(plan, stage, target, vqvae, tracking=member["tracking"]))
    return _run_once(plan, stage, target, vqvae, run)


def _run_once(
    plan: Plan, stage: PipelineStage, target: PipelineFolder, vqvae: Path, run: Callable[[list[str]], str]
) -> str:
    """Run a stage unless its output was made from the same things; an output made from others is replaced."""
    output = target.output(stage.name)
    key = stage_key(stage, target, vqvae)
    if target.done().get(stage.name) == key and output.exists():
        say(f"{stage.name}: done already: {output}")
        return "completed"
    with _put_aside(output):
        state = run([*command_line(stage, target, vqvae=vqvae, data=plan.data_path), "--overwrite"])
    if state == "completed":
        write_json(target.done_file, target.done() | {stage.name: key})
    return state


@contextlib.contextmanager
def _put_aside(output: Path) -> Iterator[None]:
    """Keep the folder of an earlier result until a new one is there: a command replaces only what it writes itself."""
    aside = output.with_name(f"{STAGING}{output.name}")
    if aside.is_dir():  # a kill came in between: what it left at ``output`` is half made, or is made again now
        shutil.rmtree(output, ignore_errors=True)
    elif output.is_dir():
        output.rename(aside)
    try:
        yield
    except BaseException:
        if aside.is_dir():
            shutil.rmtree(output, ignore_errors=True)
            aside.rename(output)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _prior_command(
    plan: Plan, stage: PipelineStage, target: PipelineFolder, vqvae: Path, *, tracking: Settings
) -> list[str]:
    """Train the prior, or go on with it; afresh where it was trained on other codes or with other settings."""
    config = compose_prior(stage, source="[pipeline.train-pixelcnn]", codes=target.codes, tracking=tracking)
    settings = {key: value for key, value in flatten(to_json(config)).items() if key != "output_dir"}
    write_file_once(target.prior_settings, to_toml(settings).encode())
    arguments = command_line(stage, target, vqvae=vqvae, data=plan.data_path)
    return [*arguments, "--fresh"] if _differs(RunFolder(target.prior), config, target.codes) else arguments


def _differs(prior: RunFolder, config: PixelCNNConfig, codes: Path) -> bool:
    """Whether a run that is there was trained otherwise; more steps than before are no difference."""
    if not prior.config_file.is_file():
        return False
    stored = prior.read_config()
    return bool(changed_settings(stored, config)) or stored["data_digest"] != data_digest(TRAIN_PRIOR, codes)
