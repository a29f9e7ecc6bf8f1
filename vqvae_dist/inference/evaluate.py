"""``evaluate``: how well a VQ-VAE keeps held-out slices, at what rate, and how good a prior is; metrics.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import arg

from data_tools.console import UsageError, counted, say
from data_tools.flags import PackedPath, RunPath, Switch
from data_tools.slicefile import SliceReader
from vqvae_dist.config import Split
from vqvae_dist.data.slices import check_sizes
from vqvae_dist.files import write_file, write_json
from vqvae_dist.inference.load import LoadedVQVAE, load_vqvae
from vqvae_dist.inference.measure import Bits, Measurement, SliceFigures
from vqvae_dist.inference.output import staged_results
from vqvae_dist.inference.prior import load_pair
from vqvae_dist.inference.prior_quality import score_samples
from vqvae_dist.inference.reference import Reference, learn_reference
from vqvae_dist.inference.slices import rows_of_split
from vqvae_dist.inference.trained_on import slices_trained_on, warn_unless_held_out, warn_unless_held_out_of_prior
from vqvae_dist.metrics.codebook import codebook_use
from vqvae_dist.metrics.image import FIGURES, FOREGROUND_THRESHOLD, SliceScores
from vqvae_dist.metrics.interval import Summary, summarise
from vqvae_dist.metrics.rate import bits_per_pixel, nominal_bits

WRITTEN = ("samples.png", "per_slice.csv", "metrics.json")

MODELS = ("unigram", "context", "prior")
"""Models that codes are charged under."""


def evaluate(
    *,
    run: RunPath,
    data: PackedPath,
    split: Split,
    output: Path,
    pixelcnn: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: none)")] = None,
    reference_draws: int = 5,
    overwrite: Switch = False,
) -> None:
    """Score the best VQ-VAE of a run, and a prior, on a split of packed slices.

    Writes metrics.json and per_slice.csv, and of a prior samples.png: samples above the training slice nearest to
    each. Memory grows with the number of slices by their figures alone.

    Args:
        run: Run folder of train-vqvae.
        data: Packed slices.
        split: Which slices are scored.
        output: Folder for metrics.json and per_slice.csv.
        pixelcnn: Run folder of train-pixelcnn over this VQ-VAE's codes; its likelihood and samples are scored too.
        reference_draws: Sets of random training slices beside which patches and variety of samples stand; seconds each.
        overwrite: Replace an earlier evaluation.
    """
    if reference_draws < 1:
        raise UsageError(f"--reference-draws must be 1 or more, got {reference_draws}")
    vqvae, prior = load_pair(run, pixelcnn) if pixelcnn else (load_vqvae(run), None)
    reader = SliceReader(data)
    reader.check_digest()
    chosen = rows_of_split(reader, split)
    check_sizes(reader, chosen)
    with staged_results(output, WRITTEN, overwrite=overwrite, inputs=[data]) as staged:
        trained_on = slices_trained_on(run, vqvae, reader, split)
        warn_unless_held_out(run, vqvae, reader, split, trained_on)
        if prior is not None and pixelcnn is not None:
            warn_unless_held_out_of_prior(pixelcnn, prior, vqvae, reader, split)
        reference = learn_reference(vqvae, reader, split)
        measurement = Measurement(vqvae, reader, reference, prior)
        rows = list(measurement.slices(chosen))
        metrics = {"split": split, **report(rows, measurement, reader)}
        metrics["prior"] = None
        if prior is not None:
            picture = staged / "samples.png"
            figures = score_samples(vqvae, prior, reader, chosen, reference_draws=reference_draws, picture=picture)
            metrics["prior"] = {**bits_per_code(rows), **figures}
        metrics["model"] = {name: vqvae.description.get(name) for name in ("run_id", "step", "weights_sha256")}
        metrics["data"] = {**_data(vqvae, reader, reference), "slices_trained_on": trained_on}
        write_file(staged / "per_slice.csv", table(rows, reader.subjects).encode())
        write_json(staged / "metrics.json", metrics)
    say(_headline(metrics))
    if metrics["prior"]:
        say(_prior_line(metrics["prior"], output / "samples.png"))
    say(f"{output / 'metrics.json'} and {output / 'per_slice.csv'}")


def report(rows: Sequence[SliceFigures], measurement: Measurement, reader: SliceReader) -> dict[str, Any]:
    """Sum the rows up as metrics.json has it, but for the prior."""
    unit = ci_unit(rows, reader)
    clusters = np.array([row.subject for row in rows]) if unit == "subject" else np.arange(len(rows))
    use = codebook_use(measurement.counts, measurement.foreground_counts)
    return {
        "slices": len(rows),
        "subjects": len({row.subject for row in rows}),
        "data_range": 1.0,
        "foreground_threshold": FOREGROUND_THRESHOLD,
        "foreground_otsu_slices": sum(row.noisy_air for row in rows),
        "ci_unit": unit,
        "dead_slices": sum(row.scores.dead for row in rows),
        **summaries([row.scores for row in rows], clusters),
        "rate": rates(rows, measurement.vqvae.config.codebook_size),
        "codebook": use._asdict(),
        "baselines": {
            "black": summaries([row.black for row in rows], clusters),
            "mean_image": summaries([row.mean_image for row in rows], clusters),
        },
    }


def ci_unit(rows: Sequence[SliceFigures], reader: SliceReader) -> str:
    """Say what the bootstrap draws: subjects, or slices where subjects are unknown."""
    guessed = set(reader.attributes["subject_rules"]) <= {"file name", "series"}
    single = len({row.subject for row in rows}) == len(rows)  # slices of one file stay together all the same
    return "slice" if guessed and single else "subject"


def summaries(scores: Sequence[SliceScores | None], clusters: np.ndarray[Any, Any]) -> dict[str, Summary]:
    """Summarise each figure over the slices that have it."""
    return {
        name: summarise([None if score is None else getattr(score, name) for score in scores], clusters)
        for name in FIGURES
    }


def rates(rows: Sequence[SliceFigures], codebook_size: int) -> dict[str, float | None]:
    """Give bits per true pixel under each model of the codes; None for a model that is not there."""
    pixels, cells = (sum(getattr(row, name) for row in rows) for name in ("pixels", "cells"))
    totals = {model: total_bits(rows, model) for model in MODELS}
    return {
        "nominal_bpp": bits_per_pixel(nominal_bits(cells, codebook_size), pixels),
        **{f"{model}_bpp": bits and bits_per_pixel(bits.total, pixels) for model, bits in totals.items()},
    }


def bits_per_code(rows: Sequence[SliceFigures]) -> dict[str, float | None]:
    """Give the prior's bits per code, over all cells, in the head and outside, beside those of simpler models."""
    cells, inside = (sum(getattr(row, name) for row in rows) for name in ("cells", "cells_foreground"))
    figures: dict[str, float | None] = {}
    for model, prefix in (("prior", ""), ("unigram", "unigram_"), ("context", "context_")):
        bits = total_bits(rows, model)
        figures[f"{prefix}bits_per_code"] = bits.total / cells if bits else None
        figures[f"{prefix}bits_per_code_foreground"] = bits.foreground / inside if bits and inside else None
        outside = cells - inside
        rest = (bits.total - bits.foreground) / outside if bits and outside else None
        figures[f"{prefix}bits_per_code_background"] = rest
    return figures


def total_bits(rows: Sequence[SliceFigures], model: str) -> Bits | None:
    """Add up what the codes cost under a model; None for a model that is not there."""
    costs = [cost for row in rows if (cost := getattr(row, model)) is not None]
    return Bits(*(sum(column) for column in zip(*costs, strict=True))) if costs else None


def table(rows: Sequence[SliceFigures], subjects: Sequence[str]) -> str:
    """Give per_slice.csv: a line a slice; a figure that does not exist is an empty field."""
    names = ("group", "row", "slice_index", "position", "pixels", "cells", "cells_foreground")
    bits = [f"{model}_bits{part}" for model in MODELS for part in ("", "_foreground")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", *names, *SliceScores._fields, *bits])
    for row in rows:
        costs = [value for model in MODELS for value in (getattr(row, model) or (None, None))]
        writer.writerow([subjects[row.subject], *(getattr(row, name) for name in names), *row.scores, *costs])
    return text.getvalue()


def _data(vqvae: LoadedVQVAE, reader: SliceReader, reference: Reference | None) -> dict[str, Any]:
    return {
        "digest": reader.digest,
        "trained_on_this_file": reader.digest == vqvae.description.get("data_digest"),
        "reference_slices": 0 if reference is None else reference.slices,
    }


def _headline(metrics: dict[str, Any]) -> str:
    """Say the figures that matter in one line."""
    parts = [f"{metrics['split']}: {counted(metrics['slices'], 'slice')} of {counted(metrics['subjects'], 'subject')}"]
    for name, label in (("ssim_foreground", "foreground SSIM"), ("ssim", "SSIM"), ("psnr", "PSNR")):
        parts.append(f"{label} {_shown(metrics[name]['mean'])}")
    parts.append(counted(metrics["dead_slices"], "dead slice"))
    return ", ".join(parts)


def _prior_line(figures: Mapping[str, Any], picture: Path) -> str:
    """Say what a prior pays for a code, beside what the context model pays, and where its samples are."""
    parts = []
    for label, suffix in (("foreground", "_foreground"), ("background", "_background"), ("all", "")):
        bits, context = (figures[f"{model}bits_per_code{suffix}"] for model in ("", "context_"))
        parts.append(f"{label} {_shown(bits)} (context model {_shown(context)})")
    samples = f"; samples in {picture}" if picture.exists() else ""
    return f"prior: bits per code {', '.join(parts)}{samples}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
