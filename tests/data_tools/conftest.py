import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data_tools.pack import pack
from data_tools.settings import PackSettings, PhantomSettings
from data_tools.slicefile import SliceReader
from tests.data_tools.slices import Pack, Pixels, Save


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save pixels as an image under ``tmp_path/in``; returns that folder."""

    def save(name: str, pixels: Pixels, **options: Any) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return tmp_path / "in"

    return save


@pytest.fixture
def pack_here(tmp_path: Path) -> Pack:
    """Pack a folder in this process and open the result."""

    def pack_here(*src: Path, output: str = "out.h5", **options: Any) -> SliceReader:
        settings = PackSettings(src, tmp_path / output, **{"workers": 1, "overwrite": True, **options})
        pack(settings)
        return SliceReader(settings.output)

    return pack_here


@pytest.fixture(scope="session")
def phantom_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of 12 subjects with 3 slices of 32 x 32, packed."""
    from data_tools.phantom import phantom

    folder = tmp_path_factory.mktemp("phantoms")
    phantom(PhantomSettings(folder / "png", subjects=12, slices=3, size=32))
    pack(PackSettings((folder / "png",), folder / "phantoms.h5", workers=1))
    return folder / "phantoms.h5"


@pytest.fixture
def copy(phantom_file: Path, tmp_path: Path) -> Path:
    """A copy of the packed phantoms that may be damaged."""
    return Path(shutil.copy(phantom_file, tmp_path / "copy.h5"))
