from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from data_tools.console import UsageError
from tests.vqvae_dist.inference.conftest import Make
from vqvae_dist.inference.generate import BATCH, generate
from vqvae_dist.models.vqvae import VQVAE


@pytest.fixture
def draw(vqvae_run: Make, pixelcnn_run: Make, tmp_path: Path) -> Make:
    """``draw(folder, **flags)`` generates into a folder and returns it."""
    vqvae = vqvae_run(vivid=True)
    prior = pixelcnn_run(vqvae)

    def make(folder: str, *, suffix: str = ".png", **flags: Any) -> Path:
        output = tmp_path / folder / f"grid{suffix}"
        generate(**{"vqvae": vqvae, "pixelcnn": prior, "num_samples": 3, "output": output, **flags})
        return tmp_path / folder

    return make


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path))


def samples(folder: Path) -> list[Any]:
    return [pixels(path) for path in sorted((folder / "grid").glob("*.png"))]


def test_a_grid_and_every_sample_are_written_losslessly_beside_a_jpeg(draw: Make) -> None:
    folder = draw("out", suffix=".jpg")
    assert sorted(path.name for path in folder.rglob("*.*")) == [
        "00.png", "01.png", "02.png", "grid.jpg", "grid.json", "grid.png",
    ]  # fmt: skip
    singles, grid = samples(folder), pixels(folder / "grid.png")
    assert all(single.shape == (30, 37) for single in singles)  # the training slices' size, cropped to true pixels
    assert np.array_equal(grid[2:32, 2:39], singles[0])
    assert np.array_equal(grid[2:32, 41:78], singles[1])
    assert pixels(folder / "grid.jpg").shape == grid.shape


def test_the_seed_decides_the_slices(draw: Make) -> None:
    first, again, other = samples(draw("a")), samples(draw("b")), samples(draw("c", seed=1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[0].std() > 0


def test_a_sample_is_the_same_however_many_are_drawn(draw: Make) -> None:
    few, many = samples(draw("few", num_samples=2)), samples(draw("many", num_samples=18))
    assert len(many) == 18
    assert np.array_equal(few, many[:2])
    assert not np.array_equal(many[0], many[16])


def test_only_what_is_asked_for_is_told_of_and_decoded(draw: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []
    decoded: list[Any] = []
    decode = VQVAE.decode

    def told(items: Iterable[Any], *, label: str, **_: Any) -> Iterable[Any]:
        labels.append(label)
        return items

    def noted(self: VQVAE, *given: Any) -> Tensor:
        decoded.append(given)
        return decode(self, *given)

    monkeypatch.setattr("vqvae_dist.inference.generate.progress", told)
    monkeypatch.setattr(VQVAE, "decode", noted)
    draw("few", num_samples=2)
    assert (labels, len(decoded)) == (["drawing samples 1 to 2 of 2"], 2)
    draw("more", num_samples=17)
    assert labels[1:] == ["drawing samples 1 to 16 of 17", "drawing samples 17 to 17 of 17"]
    assert len(decoded) == 2 + 17


def test_size_sets_the_pixels_of_a_slice(draw: Make) -> None:
    assert samples(draw("out", size="21x50"))[0].shape == (21, 50)


def test_the_record_says_what_was_drawn(draw: Make) -> None:
    record = json.loads((draw("out", position=0.25, temperature=0.8) / "grid.json").read_text())
    assert (record["seed"], record["temperature"], record["size"]) == (0, 0.8, [30, 37])
    assert record["samples"] == [{"position": 0.25, "class": None}] * 3
    positions = [sample["position"] for sample in json.loads((draw("b") / "grid.json").read_text())["samples"]]
    assert len(set(positions)) == 3
    assert all(0.1 <= position <= 0.9 for position in positions)  # as the training slices lie


def test_a_class_is_asked_for_by_name_or_number(vqvae_run: Make, pixelcnn_run: Make, tmp_path: Path) -> None:
    vqvae = vqvae_run()
    prior = pixelcnn_run(vqvae, classes=("well", "ill"))
    folder = tmp_path / "out"

    def drawn(name: str, class_: str) -> list[str | None]:
        generate(vqvae=vqvae, pixelcnn=prior, num_samples=2, output=folder / f"{name}.png", class_=class_)
        return [sample["class"] for sample in json.loads((folder / f"{name}.json").read_text())["samples"]]

    assert drawn("a", "ill") == ["ill", "ill"]
    assert drawn("b", "0") == ["well", "well"]
    with pytest.raises(UsageError, match="no such class; there are well, ill"):
        drawn("c", "odd")


def test_a_prior_of_another_vqvae_is_refused(vqvae_run: Make, pixelcnn_run: Make, tmp_path: Path) -> None:
    prior, other = pixelcnn_run(vqvae_run()), vqvae_run("other", seed=5)
    with pytest.raises(UsageError, match=r"learned the codes of VQ-VAE vqvae .* not of"):
        generate(vqvae=other, pixelcnn=prior, num_samples=1, output=tmp_path / "grid.png")


def test_pictures_that_are_there_are_kept_unless_asked(draw: Make) -> None:
    draw("out")
    with pytest.raises(UsageError, match=r"grid\.png exists"):
        draw("out")
    draw("out", overwrite=True)


def test_fewer_samples_leave_none_of_the_earlier_ones(draw: Make) -> None:
    folder = draw("out", num_samples=3)
    draw("out", num_samples=2, overwrite=True)
    assert sorted(path.name for path in (folder / "grid").iterdir()) == ["00.png", "01.png"]


def test_the_help_says_in_what_steps_it_costs() -> None:
    assert f"the cost comes in steps of {BATCH}." in str(generate.__doc__)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"temperature": 0.0}, "--temperature must be above 0"),
        ({"temperature": float("nan")}, "--temperature must be above 0"),
        ({"top_k": -1}, "--top-k must be 0"),
        ({"top_p": 0.0}, "--top-p must be above 0"),
        ({"top_p": 1.5}, "--top-p must be above 0 and at most 1, got 1.5"),
        ({"num_samples": 0}, "--num-samples must be 1 or more"),
        ({"seed": -1}, r"--seed must be from 0 to 2\^63 - 1, got -1"),
        ({"seed": 2**63}, r"--seed must be from 0 to 2\^63 - 1"),
        ({"position": 1.5}, "--position must be from 0 to 1"),
        ({"size": "64"}, "--size must be HEIGHTxWIDTH"),
        ({"class_": "ill"}, "trained without classes"),
        ({"suffix": ".gif"}, r"--output must end in \.jpg or \.png"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(draw: Make, flags: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        draw("out", **flags)
    assert not (tmp_path / "out").exists()
