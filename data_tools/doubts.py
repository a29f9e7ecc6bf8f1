"""What packing warns of: subjects that the names of files tell badly, and splits that stay empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_tools.catalog import Catalog
from data_tools.console import one_line
from data_tools.slice_format import SPLITS
from data_tools.splits import is_split_folder

NEARLY_ALL = 0.9
"""Share of pictures that are subjects of their own from which on that is doubted."""


def doubts(catalog: Catalog, pictures: int, subjects: dict[str, int]) -> Iterator[str]:
    """Yield the warnings about subjects and splits, each a line.

    ``pictures`` counts the single slices whose subject the file's name gave, ``subjects`` those of each split.
    """
    empty = [split for split in SPLITS[1:] if not subjects[split]]
    none = f"no subject is in {' and '.join(empty)}"
    name = _name_doubt(catalog, pictures)
    if name:
        yield f"{none}: {name}" if empty else name
    elif empty:
        yield f"{none}: there are too few, or its share is 0; pack more subjects, or {_name_them('^([^/]+)/')}"
    if not subjects["train"]:
        yield "no subject is in train: folders put all in other splits; pack such a folder itself, and they are drawn"


def _name_doubt(catalog: Catalog, pictures: int) -> str | None:
    """Say what is odd about the subjects that files' names gave; None where nothing is."""
    if scattered := catalog.scattered():
        count, name, one, other = scattered
        which = f"subject {name!r} has" if count == 1 else f"{count} subjects such as {name!r} have"
        return (
            f"{which}, by the names of files, slices in several folders ({one_line(one)}, {one_line(other)});"
            f" if those are several people, {_name_them(example_pattern(one, other))}"
        )
    lone, first, last = catalog.lone_pictures()
    if lone > 1 and lone >= NEARLY_ALL * pictures:
        return (
            f"{lone} of {pictures} pictures are, by their names, each a subject of its own (e.g. {one_line(first)});"
            f" if a person has several, {_name_them(example_pattern(first, last))}"
        )
    return None


def _name_them(pattern: str) -> str:
    return f"name the subjects with --subjects, or with --subject-pattern like '{pattern}'"


def example_pattern(one: str, other: str) -> str:
    """Return a pattern by which two paths may be of different subjects: by the first folder that differs, or the name.

    >>> example_pattern("train/P1/000.png", "train/P2/000.png")
    '^[^/]+/([^/]+)/'
    """
    for depth, pair in enumerate(zip(_folders(one), _folders(other), strict=False)):
        if pair[0] != pair[1] and not all(map(is_split_folder, pair)):
            return f"^{'[^/]+/' * depth}([^/]+)/"
    return "([^/]+)_[^/]*$"


def _folders(path: str) -> Sequence[str]:
    return path.split("/")[:-1]
