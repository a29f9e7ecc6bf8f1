"""Running a stage of the pipeline inside its job: on the chosen member, skipping what is done already."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from data_tools.console import CommandError, say
from jobs.collect import choose_best, write_best
from jobs.config import Settings
from jobs.folder import Plan, SweepFolder, read_member_settings, to_toml, write_file_once
from jobs.pipeline import TRAIN_PRIOR, PipelineFolder, PipelineStage, command_line, compose_prior
from jobs.report import write_report
from jobs.sweep import data_digest
from vqvae_dist.config import PixelCNNConfig
from vqvae_dist.config_io import changed_settings, flatten, nest, to_json
from vqvae_dist.files import sha256_file, write_json
from vqvae_dist.json_files import read_json
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
    done = read_json(target.done_file) if target.done_file.is_file() else {}
    if done.get(stage.name) == key and output.exists():
        say(f"{stage.name}: done already: {output}")
        return "completed"
    if output.is_dir():
        shutil.rmtree(output)  # of which the command would replace what it writes alone
    state = run([*command_line(stage, target, vqvae=vqvae, data=plan.data_path), "--overwrite"])
    if state == "completed":
        done = read_json(target.done_file) if target.done_file.is_file() else {}
        write_json(target.done_file, done | {stage.name: key})
    return state


def stage_key(stage: PipelineStage, target: PipelineFolder, vqvae: Path) -> str:
    """What a stage's output depends on, as a digest: its options and the weights it uses."""
    models = [RunFolder(vqvae), RunFolder(target.prior)] if stage.name != "extract-codes" else [RunFolder(vqvae)]
    weights = [sha256_file(file) for model in models if (file := model.model / "model.safetensors").is_file()]
    return hashlib.sha256(json.dumps([stage.options, weights], sort_keys=True).encode()).hexdigest()


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
