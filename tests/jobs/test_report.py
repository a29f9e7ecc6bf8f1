from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from jobs.collect import choose_best, read_results, write_best
from jobs.folder import Plan, SweepFolder
from jobs.report import report_json, write_report
from tests.browser import find_browser, look_at
from tests.jobs.sweep_files import GRID, finish_run, make_sweep
from vqvae_dist.files import write_sealed
from vqvae_dist.run_folder import read_sealed


class Page(HTMLParser):
    """What a browser would see: texts, attributes, and whether all tags are closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def finished(tmp_path: Path, packed: Path, rest: str = GRID) -> tuple[SweepFolder, Plan]:
    folder, plan = make_sweep(tmp_path, packed, rest)
    for number, member in enumerate(plan.members):
        finish_run(folder, member.run_id, value=0.5 + number / 10)
    write_best(folder, choose_best(folder, plan))
    best = folder.run(plan.members[-1].run_id)
    best.images.mkdir()
    Image.new("L", (8, 8), 77).save(best.image_file(40))
    target = folder.pipeline(plan.members[-1].run_id)
    target.picture.parent.mkdir(parents=True)
    Image.new("L", (8, 8), 99).save(target.picture.with_suffix(".png"))
    target.evaluation.mkdir()
    score = {"mean": 0.8125, "min": 0.5, "ci95": [0.75, 0.875]}
    metrics = {
        **{"split": "test", "slices": 12, "subjects": 3, "ssim_foreground": score, "codebook": {"usage": 0.4375}},
        "prior": {"bits_per_code": 2.25, "unigram_bits_per_code": 3.5},
    }
    (target.evaluation / "metrics.json").write_text(json.dumps(metrics))
    return folder, plan


def test_report_needs_nothing_but_itself(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    write_report(folder, plan)
    page = Page(folder.report_html.read_text())
    assert page.open == []
    assert not [entry for entry in page.attributes if entry[1] in ("src", "href") and not entry[2].startswith("data:")]
    assert not [tag for tag, *_ in page.attributes if tag in ("script", "link", "iframe")]
    assert ("meta", "name", "viewport") in page.attributes
    assert "url(" not in folder.report_html.read_text()


def test_report_shows_the_table_the_curves_the_pictures_and_the_figures(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    write_report(folder, plan)
    page = Page(folder.report_html.read_text())
    texts = [text for text in page.texts if text.strip()]
    start = texts.index("optim.lr \\ optim.milestones")
    assert texts[start : start + 9] == [
        *("optim.lr \\ optim.milestones", "10", "20 30"),
        *("0.01", "0.5000", "0.6000"),
        *("1e-3", "0.7000", "0.8000"),
    ]
    captions = [value for _, name, value in page.attributes if name == "alt"]
    assert [caption.split(",")[0] for caption in captions] == [
        *("validate/ssim_foreground", "train/loss", "Originals above reconstructions"),
        "Brains drawn from the PixelCNN prior (of earlier weights or options: the stage has not run since)",
    ]
    for figure in ("0.8125", "0.75 – 0.875", "0.4375", "2.25", "3.5"):
        assert figure in texts
    assert "4 members of train-vqvae: 4 completed. Chosen by max validate/ssim_foreground." in texts


def test_best_cell_is_marked_and_greener(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    write_report(folder, plan)
    page = Page(folder.report_html.read_text())
    cells = [entry for entry in page.attributes if entry[0] == "td"]
    kinds = [value for _, name, value in cells if name == "class"]
    colours = [value for _, name, value in cells if name == "style"]
    assert kinds == ["value", "value", "value", "value best"]
    assert len(set(colours)) == 4


def test_text_from_outside_cannot_become_markup(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    nasty = '</pre><script>alert(1)</script><img src="http://example.org/x">'
    folder.sweep_file.write_text(f"# {nasty}\n{folder.sweep_file.read_text()}")
    summary = folder.run(plan.members[0].run_id).summary_file
    write_sealed(summary, read_sealed(summary) | {"state": "failed", "reason": nasty})
    write_report(folder, plan)
    page = Page(folder.report_html.read_text())
    assert not [tag for tag, *_ in page.attributes if tag == "script"]
    assert not [value for _, name, value in page.attributes if name == "src" and not value.startswith("data:")]
    assert nasty in "".join(page.texts)


def test_more_than_two_settings_make_a_table_for_each_rest(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed, GRID + "seed = [0, 1]\n")
    write_report(folder, plan)
    texts = Page(folder.report_html.read_text()).texts
    assert texts.count("optim.lr \\ optim.milestones") == 2
    assert {"seed 0", "seed 1"} <= set(texts)


def test_report_of_a_sweep_that_has_just_begun(tmp_path: Path, packed: Path) -> None:
    folder, plan = make_sweep(tmp_path, packed)
    write_report(folder, plan)
    texts = Page(folder.report_html.read_text()).texts
    assert "No member has been chosen yet." in texts
    assert "Curves" not in texts


def test_csv_has_a_row_for_each_member_and_no_formula(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    write_sealed(folder.run(plan.members[0].run_id).summary_file, {"state": "failed", "reason": "=1+1"})
    write_report(folder, plan)
    rows = list(csv.DictReader(io.StringIO(folder.report_csv.read_text())))
    assert [row["run_id"] for row in rows] == [member.run_id for member in plan.members]
    assert [row["optim.milestones"] for row in rows] == ["10", "20 30", "10", "20 30"]
    assert (rows[3]["best"], rows[3]["best_step"], rows[3]["seconds"]) == ("0.8", "40", "8")
    assert not [cell for row in rows for cell in row.values() if cell.startswith("=")]


def test_json_holds_the_figures(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    figures = report_json(folder, plan)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["best"] == plan.members[-1].run_id
    assert [row["best"] for row in figures["members"]] == [0.5, 0.6, 0.7, 0.8]
    assert figures["evaluation"]["prior"]["bits_per_code"] == 2.25


@pytest.mark.parametrize("content", ["{", "[]"])
def test_unreadable_run_is_left_out_of_the_results(tmp_path: Path, packed: Path, content: str) -> None:
    folder, plan = finished(tmp_path, packed)
    folder.run(plan.members[0].run_id).summary_file.write_text(content)
    assert [result.value for result in read_results(folder, plan)] == [None, 0.6, 0.7, 0.8]


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
def test_report_fits_a_phone_and_asks_for_nothing_in_a_browser(tmp_path: Path, packed: Path) -> None:
    folder, plan = finished(tmp_path, packed)
    write_report(folder, plan)
    for width in (360, 1280):
        look = look_at(folder.report_html, width=width)
        assert (look.width, look.hosts, look.complaints) == (width, [], [])


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
def test_a_browser_would_notice(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    wide = '<div style="width:900px">wide</div><img src="http://example.org/a.png"><script>console.error(1)</script>'
    page.write_text(f"<!doctype html><body>{wide}</body>")
    look = look_at(page, width=360)
    assert look.width >= 900
    assert look.hosts == ["example.org"]
    assert look.complaints
