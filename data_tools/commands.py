"""The commands as typed functions, whose parameters are the flags; each imports what it needs when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from data_tools.flags import Switch
from data_tools.readers.formats import labels
from data_tools.settings import PackSettings, PhantomSettings

PackedFile = Annotated[Positional[Path], arg(metavar="FILE")]


def phantom(settings: Annotated[PhantomSettings, arg(name="")]) -> None:
    """Make brain-like slices to try things on: PNG images in train and test folders, by subject."""
    from data_tools.phantom import phantom as draw

    draw(settings)


def pack(settings: Annotated[PackSettings, arg(name="")]) -> None:
    """Pack slices ({formats}, also mixed) into one HDF5 file."""
    from data_tools.pack import pack as write

    write(settings)


pack.__doc__ = (pack.__doc__ or "").format(formats=labels())


def info(file: PackedFile, /, *, json: Switch = False) -> None:
    """Show what a packed file holds.

    Args:
        file: The packed file.
        json: Print one JSON object.
    """
    from data_tools.info import info as show

    show(file, as_json=json)


def verify(file: PackedFile, /) -> None:
    """Check every slice of a packed file against its checksums.

    Args:
        file: The packed file.
    """
    from data_tools.verify import verify as check

    check(file)


def export(file: PackedFile, out_dir: Annotated[Positional[Path], arg(metavar="OUT_DIR")], /) -> None:
    """Write the slices of a packed file as images: PNG for 8 and 16 bits without sign, TIFF for the rest.

    Args:
        file: The packed file.
        out_dir: A folder that is new or empty.
    """
    from data_tools.export import export as write

    write(file, out_dir)
