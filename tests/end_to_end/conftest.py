"""What the tests of nothing executing share."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.data_tools.slices import Pixels, Save


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save pixels as an image under ``tmp_path/in``; returns that folder."""

    def save(name: str, pixels: Pixels) -> Path:
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
        return tmp_path / "in"

    return save
