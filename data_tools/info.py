"""What a packed file holds: ``info``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_tools.console import counted, say
from data_tools.slice_format import SPLITS, damage_named
from data_tools.slicefile import SliceReader


def info(file: Path, *, as_json: bool) -> None:
    """Print what ``file`` holds, for people or as one JSON object."""
    with SliceReader(file) as reader, damage_named(file, "the index or an attribute"):
        facts = describe(reader)
        lines = summary_lines(facts)
    if as_json:
        say(json.dumps(facts, indent=1, sort_keys=True))
        return
    say(f"{file}: {headline(facts)}")
    for line in lines:
        say(f"  {line}")


def describe(reader: SliceReader) -> dict[str, Any]:
    """Return counts of slices and subjects, and the attributes, as plain values; JSON can hold them."""
    split_of_subject = np.full(len(reader.subjects), len(SPLITS), np.uint8)
    groups: dict[str, dict[str, Any]] = {
        group.name: {
            "height": group.height,
            "width": group.width,
            "dtype": group.dtype,
            "slices": group.count,
            "splits": _count_splits(reader, group.name, split_of_subject),
        }
        for group in reader.groups
    }
    splits = {split: sum(group["splits"][split] for group in groups.values()) for split in SPLITS}
    return {
        **reader.attributes,
        "slices": sum(group.count for group in reader.groups),
        "sources": reader.source_count,
        "groups": groups,
        "splits": splits,
        "subjects": {split: int((split_of_subject == n).sum()) for n, split in enumerate(SPLITS)},
        "classes": reader.classes,
    }


def _count_splits(reader: SliceReader, group: str, split_of_subject: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Count the slices of each split, and note the split of each subject."""
    counts = np.zeros(256, np.int64)
    for subject, split in reader.blocks(group, "subject", "split"):
        counts += np.bincount(split, minlength=len(counts))
        split_of_subject[subject] = split
    return {split: int(counts[number]) for number, split in enumerate(SPLITS)}


def headline(facts: dict[str, Any]) -> str:
    """How much ``describe`` found."""
    return f"{counted(facts['slices'], 'slice')} of {counted(sum(facts['subjects'].values()), 'subject')}"


def summary_lines(facts: dict[str, Any]) -> list[str]:
    """Return what ``describe`` found as short lines."""
    lines = [f"{name}: {counted(group['slices'], 'slice')}" for name, group in facts["groups"].items()]
    parts = [f"{split} {facts['splits'][split]} ({counted(facts['subjects'][split], 'subject')})" for split in SPLITS]
    lines.append("splits: " + ", ".join(parts))
    if "split_rules" in facts:  # files of earlier versions do not say it
        lines.append("splits by: " + ", ".join(_split_rules(facts["split_rules"])))
    lines.append("subjects by: " + ", ".join(f"{rule} ({n})" for rule, n in facts["subject_rules"].items()))
    if facts["classes"]:
        lines.append("classes: " + ", ".join(facts["classes"]))
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items() if value is not None)
    lines.append(f"packed with: {settings}, compression {facts['compression']}")
    lines.append(f"digest {facts['digest']}")
    return lines


def _split_rules(rules: dict[str, dict[str, int]]) -> Iterator[str]:
    """Yield how each split that has subjects came by them: ``train folder (40) and the rest (6)``."""
    for split in SPLITS:
        parts = [f"{rule} ({count})" for rule, count in rules.get(split, {}).items()]
        if parts:
            yield f"{split} {' and '.join(parts)}"
