"""Looks at a page in a real browser (Chromium, headless): what it asks for, how wide it is, and a picture of it."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

FRAME = """<!doctype html><title></title><body style="margin:0">
<iframe style="border:0;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
const root = document.querySelector("iframe").contentDocument.documentElement
document.title = "width " + root.scrollWidth + " height " + root.scrollHeight}})</script></body>"""
"""A window as narrow as a phone: Chromium's own has a least width."""


LEAST_WIDTH = 500

HOUSEKEEPING = (".google.com", "update.googleapis.com")
"""Hosts that the browser itself asks for the time and for updates, whatever is open."""


class Look(NamedTuple):
    """What a browser made of a page."""

    width: int
    """Of the content, in CSS pixels; above the window's, the page would have to be pushed sideways."""
    height: int
    hosts: list[str]
    """Every host that was asked for something."""
    complaints: list[str]
    """What went to the console."""


def find_browser() -> str | None:
    """Path of a Chromium, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def look_at(page: Path, *, width: int) -> Look:
    """Open ``page`` in a frame of ``width`` CSS pixels, from a file."""
    with tempfile.TemporaryDirectory() as folder:
        framed, log = Path(folder) / "framed.html", Path(folder) / "net.json"
        framed.write_text(_framed(page, width, 1200))
        options = ["--window-size=1400,1200", f"--log-net-log={log}", "--dump-dom"]
        shown = _run(*options, framed.as_uri(), home=folder)
        asked = {urlsplit(url).hostname or "" for url in re.findall(r'"url":"(https?:[^"]+)"', log.read_text())}
        found = re.search(r"<title>width (\d+) height (\d+)", shown.stdout)
        assert found, shown.stderr[-2000:]
        complaints = [line for line in shown.stderr.splitlines() if ":CONSOLE" in line]
    hosts = sorted(host for host in asked if not host.endswith(HOUSEKEEPING))
    return Look(int(found[1]), int(found[2]), hosts, complaints)


def _framed(page: Path, width: int, height: int) -> str:
    return FRAME.format(width=width, height=height, page=html.escape(page.read_text(), quote=True))


def _run(*arguments: str, home: str) -> subprocess.CompletedProcess[str]:
    browser = find_browser()
    assert browser, "no Chromium"
    plain = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"]
    log = ["--enable-logging=stderr", f"--user-data-dir={home}/profile"]
    command = [browser, *plain, *quiet, *log, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
