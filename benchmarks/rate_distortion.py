"""Quality against coded rate: our VQ-VAE, public quantizers trained alike, and image codecs.

    python -m benchmarks.rate_distortion --data brain.h5 [--series NAME ...] [--steps 4000] [--prior-steps 4000]
        [--prior-set KEY=JSON ...]

Ours over a grid of codebook sizes and downsamplings; peers (see benchmarks/peers.py; MONAI's need ``pip install
monai``) over some sizes; AVIF, WebP and JPEG 2000 over their quality settings, container bytes left out. The rate of
codes is what they cost under a fixed left-and-above count model (``context_bpp``) and, with --prior-steps, under a
prior trained on them (``prior_bpp``); codecs' is their payload. Points that are not asked for keep the figures they
have. Writes docs/results/rate_distortion.json and docs/results/pictures/rate_distortion.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bd_rate import Curve, bd_rate, quality_at
from benchmarks.codecs import CODECS, points
from benchmarks.peers import PEERS, trained_peer
from benchmarks.prior import charge, prior_bits
from benchmarks.suite import (
    base_settings,
    command,
    evaluate,
    markdown,
    parser,
    provenance_of,
    rows_before,
    save,
    save_figure,
    setting,
    train,
)
from data_tools.console import warn
from data_tools.slicefile import SliceReader
from vqvae_dist.config import VQVAEConfig
from vqvae_dist.config_io import Layer, compose, nest, preset_layer
from vqvae_dist.data.codes import CodesReader
from vqvae_dist.inference.evaluate import report
from vqvae_dist.inference.extract_codes import encode_all, identity
from vqvae_dist.inference.load import LoadedVQVAE, load_pixelcnn
from vqvae_dist.inference.measure import Measurement
from vqvae_dist.inference.reference import learn_reference
from vqvae_dist.inference.slices import rows_of_split

QUALITIES = ("ssim_foreground", "psnr")

SPLIT = "test"

NETWORKS: dict[int, dict[str, Any]] = {8: {"model.upsample": "transpose", "model.residual_layers": 6}}
"""What our networks have at a downsampling beside what the preset says, which was chosen at 4."""


def main(arguments: list[str] | None = None) -> None:
    """Measure the series asked for, and write and print all there are."""
    made = parser(__doc__, name="rate_distortion", steps=4000)
    made.add_argument("--series", nargs="*", choices=[*SERIES], default=[*SERIES])
    made.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 512, 1024, 4096])
    made.add_argument("--downsample", type=int, nargs="+", default=[4, 8])
    made.add_argument("--peer-sizes", type=int, nargs="+", default=[64, 512, 4096])
    made.add_argument("--peer-downsample", type=int, nargs="+", default=[4])
    made.add_argument("--prior-steps", type=int, default=0, help="of a prior for each point; 0: no prior_bpp")
    made.add_argument("--prior-set", nargs="*", default=[], metavar="KEY=JSON", type=setting)
    made.add_argument("--no-bf16", action="store_true", help="peers in float32")
    made.add_argument("--no-compile", action="store_true", help="peers uncompiled")
    options = made.parse_args(arguments)
    rows = rows_before(options)
    for name in options.series:
        try:
            for found in SERIES[name](options, name):
                earlier = rows.get(name, {"points": []})["points"]
                rows[name] = {"points": replaced(earlier, {**found, **provenance_of(options)})}
                save(options, rows)
        except ImportError as error:
            warn(f"{name} is left out: {error}")
    print(tables(rows))
    draw(rows, options.output.parent / "pictures" / "rate_distortion.png")


def replaced(points: Iterable[dict[str, Any]], new: dict[str, Any]) -> list[dict[str, Any]]:
    """Give ``points`` with ``new`` in the place of the same setting, or at the end."""
    named = {(p.get("downsample"), p.get("K"), p.get("quality")): p for p in (*points, new)}
    return [*named.values()]


def measure_ours(options: argparse.Namespace, name: str) -> Iterator[dict[str, Any]]:
    """Our VQ-VAE at each point of the grid."""
    for factor, K in ((factor, K) for factor in options.downsample for K in options.sizes):
        run = options.runs / f"{name}_f{factor}_K{K}"
        train("train-vqvae", run, point_settings(options, name, K, factor), preset=options.preset)
        metrics = evaluate(run, options.data, SPLIT)
        codes = run / "codes.h5"
        if options.prior_steps:
            command("extract-codes", "--run", run, "--data", options.data, "--output", codes)
        yield point(metrics, K, factor, prior_bpp(options, codes, metrics))


def measure_peer(options: argparse.Namespace, name: str) -> Iterator[dict[str, Any]]:
    """A public quantizer at each of its points."""
    reader = SliceReader(options.data)
    for factor, K in ((factor, K) for factor in options.peer_downsample for K in options.peer_sizes):
        run = options.runs / f"{name}_f{factor}_K{K}"
        settings = json_like(point_settings(options, name, K, factor))
        config = compose(VQVAEConfig, preset_layer(options.preset), Layer("point", nest(settings)))
        peer = trained_peer(name, config, run, bf16=not options.no_bf16, compiled=not options.no_compile)
        metrics = scored(peer, reader)
        codes = run / "codes.h5"
        if options.prior_steps and not codes.is_file():
            encode_all(codes, peer, reader, identity(peer, reader, 1, 0))
        yield point(metrics, K, factor, prior_bpp(options, codes, metrics))


def point_settings(options: argparse.Namespace, name: str, K: int, factor: int) -> dict[str, Any]:
    """The settings of one point of the grid."""
    networks = {} if name.startswith("monai") else NETWORKS.get(factor, {})  # MONAI's are its own
    return {**networks, **base_settings(options), "model.codebook_size": K, "model.downsample": factor}


def json_like(settings: dict[str, Any]) -> dict[str, Any]:
    """The same as a settings file would have them."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}


def scored(model: LoadedVQVAE, reader: SliceReader) -> dict[str, Any]:
    """What ``evaluate`` would report of a model."""
    measurement = Measurement(model, reader, learn_reference(model, reader, SPLIT), None)
    return report(list(measurement.slices(rows_of_split(reader, SPLIT))), measurement, reader)


def point(metrics: dict[str, Any], K: int, factor: int, under_prior: float | None) -> dict[str, Any]:
    """One point of a curve."""
    return {
        "K": K,
        "downsample": factor,
        "bpp": metrics["rate"]["context_bpp"],
        "prior_bpp": under_prior,
        "usage": metrics["codebook"]["usage"],
        **{name: metrics[name]["mean"] for name in ("ssim_foreground", "ssim", "psnr")},
    }


def prior_bpp(options: argparse.Namespace, codes: Path, metrics: dict[str, Any]) -> float | None:
    """What the test slices' codes cost under a prior trained on the others', in bits per true pixel."""
    if not options.prior_steps:
        return None
    run, reader = codes.parent / "prior", CodesReader(codes)
    settings = {"data.path": codes, "schedule.steps": options.prior_steps, **dict(options.prior_set)}
    train("train-pixelcnn", run, settings, preset="pixelcnn")
    pixels = sum(
        group.size[0] * group.size[1] * len(reader.rows(group.name, SPLIT, views=False)) for group in reader.groups
    )
    cells = sum(
        group.grid[0] * group.grid[1] * len(reader.rows(group.name, SPLIT, views=False)) for group in reader.groups
    )
    return float(charge(reader, prior_bits(load_pixelcnn(run).model), SPLIT)["all"] * cells / pixels)


def measure_codec(options: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """An image codec at each of its quality settings."""
    return points(CODECS[name], SliceReader(options.data), SPLIT)


SERIES: dict[str, Callable[[argparse.Namespace, str], Iterable[dict[str, Any]]]] = {
    "ours": measure_ours,
    **dict.fromkeys(PEERS, measure_peer),
    **dict.fromkeys(CODECS, measure_codec),
}


def tables(rows: dict[str, Any]) -> str:
    """Every point, and how ours compares with each series."""
    every = [
        [name, p.get("K", p.get("quality")), p.get("downsample"), f"{p['bpp']:.3f}",
         None if p.get("prior_bpp") is None else f"{p['prior_bpp']:.3f}",
         f"{p['ssim_foreground']:.3f}", f"{p['ssim']:.3f}", f"{p['psnr']:.1f}"]
        for name, row in rows.items() for p in row["points"]
    ]  # fmt: skip
    head = ["series", "K or quality", "downsample", "bit/pixel", "under a prior", "foreground SSIM", "SSIM", "PSNR"]
    return f"{markdown(head, every)}\n{comparison(rows)}"


def comparison(rows: dict[str, Any]) -> str:
    """BD-rate of ours against each series, and what ours is above its points at their rates."""
    if "ours" not in rows:
        return "ours is not measured yet\n"
    lines = []
    for factor, mine in by_downsample(rows["ours"]["points"]).items():
        for name, row in rows.items():
            theirs = row["points"] if name in CODECS else by_downsample(row["points"]).get(factor)
            if name == "ours" or not theirs:
                continue
            cells: list[object] = [factor, name]
            for quality in QUALITIES:
                ours, other = curve(mine, quality), curve(theirs, quality)
                rate = bd_rate(ours, other)
                cells += [None if rate is None else f"{100 * rate:+.0f} %", gains(ours, other)]
            lines.append(cells)
    head = [
        "downsample",
        "ours against",
        "BD-rate (foreground SSIM)",
        "at equal rate",
        "BD-rate (PSNR)",
        "at equal rate",
    ]
    return markdown(head, lines)


def by_downsample(found: Sequence[dict[str, Any]]) -> dict[int | None, list[dict[str, Any]]]:
    """Points by the networks' downsampling: between two of them lies nothing that could be trained."""
    factors = sorted({p.get("downsample") for p in found}, key=str)
    return {factor: [p for p in found if p.get("downsample") == factor] for factor in factors}


def curve(found: Sequence[dict[str, Any]], quality: str) -> Curve:
    """(rate, quality) of the points."""
    return [(p["bpp"], p[quality]) for p in found if p["bpp"] and p[quality] is not None]


def gains(ours: Curve, other: Curve) -> str | None:
    """The least and greatest difference of quality at the other's rates that ours reaches."""
    found = [mine - theirs for rate, theirs in other if (mine := quality_at(ours, rate)) is not None]
    return f"{min(found):+.3f} … {max(found):+.3f}" if found else None


def draw(rows: dict[str, Any], target: Path) -> None:
    """The curves of foreground SSIM."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="bit/pixel (context model, or payload)", ylabel="foreground SSIM", xscale="log")
    for number, (name, row) in enumerate(rows.items()):
        for factor in sorted({p.get("downsample", 0) for p in row["points"]}):
            line = sorted(curve([p for p in row["points"] if p.get("downsample", 0) == factor], "ssim_foreground"))
            label = f"{name}, downsample {factor}" if factor else name
            dash = "--" if factor == 8 else "-"
            axes.plot(*zip(*line, strict=True), dash, color=f"C{number}", marker="o", markersize=3, label=label)
    axes.set_xlim(left=0.01)  # a series that collapsed costs nothing
    axes.set_ylim(bottom=0.6)  # and is worth nothing
    save_figure(figure, target)


if __name__ == "__main__":
    main()
