"""Whose slice it is: a subject, and perhaps a class, for every file."""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_tools.console import CommandError, UsageError, counted, one_line
from data_tools.readers.formats import without_suffixes

KNOWN_NAMES = re.compile(r"(?<![A-Za-z0-9])(case_\d+|sub-[A-Za-z0-9]+)")
"""OASIS's ``case_001`` and BIDS's ``sub-01``, in the file's name or else in a folder's."""

TABLE_RULE, PATTERN_RULE, FILE_RULE = "subjects file", "subject pattern", "file name"

_SLICE_NUMBER = re.compile(r"(?:^|[_-])slice[_-]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Owner:
    """Whose a file is, and by which rule."""

    subject: str
    rule: str
    """``subjects file``, ``subject pattern``, ``known name``, ``patient id``, ``series`` or ``file name``."""

    label: str | None = None
    """The name of its class, if the subjects file gives one."""


def file_name(path: str) -> str:
    """Return the last part of a relative path; a pathlib object for every file would cost as much as reading it."""
    return path.rpartition("/")[2]


def stem(path: str) -> str:
    """Return a file's name without suffixes and slice number: ``scan7_slice_0.nii.png`` -> ``scan7``.

    Where nothing is left (``p1/slice_3.png``) it is the folder's name: the slices of a folder belong together.
    """
    folder, _, name = path.rpartition("/")
    short = _SLICE_NUMBER.sub("", without_suffixes(name))
    return short or folder.rpartition("/")[2] or name


def volume_of(path: str) -> tuple[str, int | None]:
    """Return which volume a file's name says it is a slice of, and the slice's number, if it says so."""
    name = file_name(path)
    numbers = _SLICE_NUMBER.findall(name)
    if not numbers or len(numbers[-1]) > 9:
        return path, None
    return path.removesuffix(name) + _SLICE_NUMBER.sub("", name), int(numbers[-1])


class SubjectRules:
    """Applies, in this order: the subjects file, the pattern, known names, and what DICOM or the file's name says."""

    def __init__(self, table: SubjectTable | None, pattern: re.Pattern[str] | None) -> None:
        self._table = table
        self._pattern = pattern
        self._first: dict[str, str] = {}
        """The first file that each rule decided, by rule."""
        self._without_row = 0

    def owner(self, path: str, *, patient: str = "", series: str = "") -> Owner:
        """Return whose the file at ``path`` (relative, with /) is; ``patient`` or ``series`` come from DICOM."""
        owner = self._owner(path, patient, series)
        self._first.setdefault(owner.rule, path)
        self._without_row += owner.rule != TABLE_RULE
        return replace(owner, subject=one_line(owner.subject))

    def check(self) -> None:
        """Raise UsageError for a rule that was given and decided for no file, as a mistyped one does."""
        rules = {TABLE_RULE: ("--subjects", self._table), PATTERN_RULE: ("--subject-pattern", self._pattern)}
        for rule, (flag, given) in rules.items():
            others = [path for other, path in self._first.items() if other not in (rule, TABLE_RULE)]
            if given and others and rule not in self._first:
                hint = f", and a row like {next(iter(self._table.idle))}" if rule == TABLE_RULE and self._table else ""
                raise UsageError(f"{flag}: fits no file; their paths are like {one_line(others[0])}{one_line(hint)}")

    def complaints(self) -> Iterator[str]:
        """What may be a mistake in the subjects file: rows that fit no file, and files that no row fits."""
        if self._table and (idle := list(self._table.idle)):
            rows = "1 row fits" if len(idle) == 1 else f"{len(idle)} rows fit"
            yield f"--subjects: {rows} no file, e.g. {one_line(idle[0])}"
        if self._table and self._without_row:
            path = one_line(next(path for rule, path in self._first.items() if rule != TABLE_RULE))
            files = counted(self._without_row, "file")
            yield f"--subjects: no row fits {files}, e.g. {path}; other rules give their subjects"
        others = [path for rule, path in self._first.items() if rule not in (TABLE_RULE, PATTERN_RULE)]
        if self._pattern and others:
            path = one_line(others[0])
            yield f"--subject-pattern: does not fit all files, e.g. {path}; other rules give their subjects"

    def _owner(self, path: str, patient: str, series: str) -> Owner:
        if self._table is not None and (owner := self._table.owner(path)):
            return owner
        if self._pattern is not None and (found := self._pattern.search(path)):
            subject = found[1] if self._pattern.groups else found[0]
            if subject:
                return Owner(subject, PATTERN_RULE)
        known = KNOWN_NAMES.search(file_name(path)) or KNOWN_NAMES.search(path)
        if known:
            return Owner(known[1], "known name")
        if patient:
            return Owner(patient, "patient id")
        return Owner(series, "series") if series else Owner(stem(path), FILE_RULE)


class SubjectTable:
    """The CSV of ``--subjects``: path glob, subject and, if wanted, class; the first row that fits counts."""

    def __init__(self, rows: Iterable[tuple[str, Owner]], digest: str) -> None:
        rows = list(rows)
        self.digest = digest
        self.classes = sorted({owner.label for _, owner in rows if owner.label is not None})
        self.idle: dict[str, None] = {}
        """Globs that have fitted no file so far."""
        self._exact: dict[str, Owner] = {}
        self._globs: list[tuple[str, re.Pattern[str], Owner]] = []
        for glob, owner in rows:
            self.idle[glob] = None
            self._exact.setdefault(glob, owner)  # a name may hold brackets and mean them
            if any(sign in glob for sign in "*?["):
                self._globs.append((glob, re.compile(fnmatch.translate(glob)), owner))

    @classmethod
    def read(cls, path: Path) -> SubjectTable:
        """Read the CSV, with or without a heading ``path,subject[,class]``."""
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise UsageError(
                f"--subjects {path}: {error.strerror}; give a CSV of path glob, subject[, class]"
            ) from error
        except UnicodeDecodeError as error:
            raise CommandError(f"--subjects {path}: not UTF-8 text ({error})") from error
        try:
            table = list(csv.reader(text.splitlines()))
        except csv.Error as error:
            raise UsageError(f"--subjects {path}: not a CSV of path glob, subject[, class] ({error})") from error
        rows = []
        for number, cells in enumerate(table, start=1):
            cells = [cell.strip() for cell in cells]
            if not any(cells) or (number == 1 and cells[:2] == ["path", "subject"]):
                continue
            if len(cells) not in (2, 3) or not all(cells[:2]):
                raise CommandError(f"--subjects {path}: line {number} is not: path glob, subject[, class]")
            label = cells[2] if len(cells) == 3 and cells[2] else None
            rows.append((cells[0], Owner(cells[1], TABLE_RULE, label)))
        return cls(rows, hashlib.sha256(data).hexdigest())

    def owner(self, path: str) -> Owner | None:
        """Return the owner of ``path``, or None where no row fits; ``*`` matches across folders."""
        name = file_name(path)
        exact = ((key, self._exact[key]) for key in (path, name) if key in self._exact)
        fitting = ((glob, owner) for glob, pattern, owner in self._globs if pattern.match(path) or pattern.match(name))
        for glob, owner in itertools.chain(exact, fitting):
            self.idle.pop(glob, None)
            return owner
        return None


def compiled_pattern(text: str | None) -> re.Pattern[str] | None:
    """Compile ``--subject-pattern``; UsageError where it is no regular expression."""
    try:
        return re.compile(text) if text is not None else None
    except re.error as error:
        raise UsageError(f"--subject-pattern {text}: not a regular expression ({error})") from error
