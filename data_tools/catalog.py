"""What is to be packed and what became of it, in a temporary SQLite file.

Everything that grows with the number of files is here and not in Python lists: the paths in their order, the
subjects, and what was skipped. So the memory of packing stays flat, for ten million slices too.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data_tools.console import CommandError, one_line
from data_tools.slice_format import SPLITS
from data_tools.splits import draw, place
from data_tools.subjects import FILE_RULE, Owner

_TABLES = """
    CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, volume BLOB, number INTEGER, dicom INTEGER);
    CREATE INDEX by_volume ON files (volume, number, path);
    CREATE TABLE series (path BLOB PRIMARY KEY, volume BLOB, patient TEXT, study TEXT, series TEXT);
    CREATE TABLE subjects (id INTEGER PRIMARY KEY, name TEXT UNIQUE, rule TEXT, draw REAL, split TEXT, split_rule TEXT,
                           split_path BLOB, path BLOB, lone_picture INTEGER, elsewhere BLOB);
    CREATE TABLE byte_rows (slices TEXT, row INTEGER, PRIMARY KEY (slices, row)) WITHOUT ROWID;
    CREATE TABLE skipped (path TEXT, reason TEXT);
"""


FOLDER = "folder"
"""The rule of a split that a folder's name gives; the others are ``drawn`` and ``the rest``."""


class FileRow(NamedTuple):
    """A file to be read, with its place among those that its name says it belongs with."""

    path: str
    """Relative to the folder packed, with /; undecodable bytes as surrogates."""

    size: int
    volume: str
    number: int | None
    """The slice number in its name."""

    first: int | None
    last: int | None
    """The lowest and highest number of its volume."""

    is_dicom: bool


class Catalog:
    """Files, subjects and skipped files of one packing."""

    def __init__(self, path: Path) -> None:
        # The file is thrown away with the staging folder, so nothing is spent on keeping it safe.
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_TABLES)
        self._db.execute("BEGIN")
        self._subjects = 0
        self.longest_path = 1
        """In bytes, as ``one_line`` writes it."""

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def add_file(self, path: str, *, size: int, volume: str, number: int | None, is_dicom: bool) -> None:
        """Note a file to be read; a path noted before is not noted twice."""
        row = (os.fsencode(path), size, os.fsencode(volume), number, is_dicom)
        self.longest_path = max(self.longest_path, len(one_line(path).encode()))
        self._db.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?)", row)

    def add_series(self, path: str, *, patient: str, study: str, series: str) -> None:
        """Note which DICOM series a file belongs to; files of one series become one volume."""
        volume = "\0".join(("dicom", patient, study, series or str(PurePosixPath(path).parent)))
        texts = (text.encode("utf-8", "replace").decode() for text in (patient, study, series))
        row = (os.fsencode(path), volume.encode("utf-8", "surrogatepass"), *texts)
        self._db.execute("INSERT INTO series VALUES (?, ?, ?, ?, ?)", row)

    def dicom_paths(self) -> Iterator[str]:
        """Yield the DICOM files in order."""
        for (path,) in self._db.execute("SELECT path FROM files WHERE dicom ORDER BY path"):
            yield os.fsdecode(path)

    def patient_of(self, path: str) -> tuple[str, str]:
        """Return (patient, series) of a DICOM file; only one of them, the one that tells subjects apart, is filled."""
        query = "SELECT patient, series FROM series WHERE path = ?"
        row = self._db.execute(query, (os.fsencode(path),)).fetchone()
        if row is None:
            return "", ""
        patient, series = row
        return ("", series) if patient in self.shared_patients() else (patient, "")

    def shared_patients(self) -> set[str]:
        """Return the DICOM patient ids that cannot be told subjects by: empty, or shared by several studies."""
        if not hasattr(self, "_shared"):
            query = "SELECT patient FROM series GROUP BY patient HAVING patient = '' OR COUNT(DISTINCT study) > 1"
            self._shared = {patient for (patient,) in self._db.execute(query)}
        return self._shared

    def count_volumes(self) -> int:
        """Return how many volumes are read: a DICOM series is one, any other file one by itself."""
        query = "SELECT (SELECT COUNT(*) FROM files WHERE NOT dicom) + (SELECT COUNT(DISTINCT volume) FROM series)"
        return int(self._db.execute(query).fetchone()[0])

    def files(self) -> Iterator[FileRow]:
        """Yield the files in the order of their slices: by volume, number and path."""
        self._db.execute("UPDATE files SET volume = (SELECT volume FROM series WHERE path = files.path) WHERE dicom")
        query = """SELECT path, size, volume, number, MIN(number) OVER one, MAX(number) OVER one, dicom
                   FROM files WINDOW one AS (PARTITION BY volume) ORDER BY volume, number, path"""
        for path, size, volume, number, first, last, dicom in self._db.execute(query):
            yield FileRow(os.fsdecode(path), size, os.fsdecode(volume), number, first, last, bool(dicom))

    def add_subject(self, owner: Owner, split: str | None, path: str, *, is_picture: bool = False) -> int:
        """Return the number of a file's subject, a new one if need be; CommandError where folders put it in two splits.

        ``is_picture`` says that the file is one slice by itself, which ``lone_pictures`` counts.
        """
        query = "SELECT id, split, split_path, path, lone_picture, elsewhere FROM subjects WHERE name = ?"
        row = self._db.execute(query, (owner.subject,)).fetchone()
        if row is None:
            return self._new_subject(owner, split, path, is_picture=is_picture)
        number, before, other, first, is_lone, elsewhere = row
        if is_lone:
            self._db.execute("UPDATE subjects SET lone_picture = 0 WHERE id = ?", (number,))
        if owner.rule == FILE_RULE and elsewhere is None and place(path) != place(os.fsdecode(first)):
            self._db.execute("UPDATE subjects SET elsewhere = ? WHERE id = ?", (os.fsencode(path), number))
        if split is not None and before is None:
            values = (split, FOLDER, os.fsencode(path), number)
            self._db.execute("UPDATE subjects SET split = ?, split_rule = ?, split_path = ? WHERE id = ?", values)
        elif split is not None and split != before:
            raise CommandError(
                f"subject {owner.subject!r} (by {owner.rule}) is in {before} ({os.fsdecode(other)}) and in {split}"
                f" ({path})\nput it on one side, or tell the subjects apart with --subject-pattern or --subjects"
            )
        return int(number)

    def _new_subject(self, owner: Owner, split: str | None, path: str, *, is_picture: bool) -> int:
        number, self._subjects = self._subjects, self._subjects + 1
        by, file = (FOLDER, os.fsencode(path)) if split is not None else (None, None)
        values = (owner.subject, owner.rule, draw(owner.subject), split, by, file, os.fsencode(path), is_picture)
        self._db.execute("INSERT INTO subjects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", (number, *values))
        return number

    def scattered(self) -> tuple[int, str, str, str] | None:
        """Return how many subjects named by their files have files in several folders, and one with two files."""
        query = (
            "SELECT COUNT(*) OVER (), name, path, elsewhere FROM subjects WHERE elsewhere NOT NULL ORDER BY id LIMIT 1"
        )
        row = self._db.execute(query).fetchone()
        return None if row is None else (row[0], row[1], os.fsdecode(row[2]), os.fsdecode(row[3]))

    def lone_pictures(self) -> tuple[int, str, str]:
        """Return how many subjects named by their files are one picture, and the first and last of these by path."""
        query = "SELECT COUNT(*), MIN(path), MAX(path) FROM subjects WHERE lone_picture AND rule = ?"
        count, first, last = self._db.execute(query, (FILE_RULE,)).fetchone()
        return count, os.fsdecode(first or b""), os.fsdecode(last or b"")

    def assign_splits(self, shares: tuple[float, float, float]) -> npt.NDArray[np.uint8]:
        """Decide the split of every subject that no folder decides; return them all, as numbers into SPLITS.

        Where no folder gives validate, the training subjects with a ``draw`` below its share are taken, or the one
        with the lowest; where none gives test, the next ones likewise. One subject always stays for training.
        """
        given = {split for (split,) in self._db.execute("SELECT DISTINCT split FROM subjects")}
        self._db.execute("UPDATE subjects SET split = 'train', split_rule = 'the rest' WHERE split IS NULL")
        taken = 0.0
        for split, share in zip(SPLITS[1:], shares[1:], strict=True):
            if split not in given and share > 0:
                taken += share
                self._draw_split(split, taken)
        numbers = self._db.execute("SELECT split FROM subjects ORDER BY id")
        return np.fromiter((SPLITS.index(split) for (split,) in numbers), np.uint8, self._subjects)

    def _draw_split(self, split: str, below: float) -> None:
        training, drawn = self._db.execute(
            "SELECT COUNT(*), COUNT(CASE WHEN draw < ? THEN 1 END) FROM subjects WHERE split = 'train'", (below,)
        ).fetchone()
        self._db.execute(
            """UPDATE subjects SET split = ?, split_rule = 'drawn' WHERE id IN
               (SELECT id FROM subjects WHERE split = 'train' ORDER BY draw, name LIMIT ?)""",
            (split, min(max(drawn, 1), training - 1) if training else 0),
        )

    def split_rules(self) -> dict[str, dict[str, int]]:
        """Return how many subjects of each split are there by their folder, by the draw, or as the rest."""
        rules: dict[str, dict[str, int]] = {}
        query = "SELECT split, split_rule, COUNT(*) FROM subjects GROUP BY split, split_rule ORDER BY split, split_rule"
        for split, rule, count in self._db.execute(query):
            rules.setdefault(split, {})[rule] = count
        return rules

    def subject_names(self) -> Iterator[str]:
        """Yield the names of the subjects in the order of their numbers."""
        yield from (name for (name,) in self._db.execute("SELECT name FROM subjects ORDER BY id"))

    def longest_name(self) -> int:
        """Return the length of the longest subject name in bytes."""
        query = "SELECT MAX(LENGTH(CAST(name AS BLOB))) FROM subjects"
        return int(self._db.execute(query).fetchone()[0] or 1)

    def rules(self) -> dict[str, int]:
        """Return how many subjects each rule named."""
        return dict(self._db.execute("SELECT rule, COUNT(*) FROM subjects GROUP BY rule ORDER BY rule"))

    def add_byte_row(self, group: str, row: int) -> None:
        """Note a slice that ``leaks.may_be_bytes``."""
        self._db.execute("INSERT INTO byte_rows VALUES (?, ?)", (group, row))

    def byte_rows(self, group: str) -> Iterator[int]:
        """Yield the rows of a group that were noted."""
        yield from (row for (row,) in self._db.execute("SELECT row FROM byte_rows WHERE slices = ?", (group,)))

    def add_skipped(self, path: str, reason: str) -> None:
        """Note a file that contributes no slice."""
        self._db.execute("INSERT INTO skipped VALUES (?, ?)", (one_line(path), reason))

    def skipped(self) -> Iterator[tuple[str, str]]:
        """Yield (path, reason) of the files that contribute no slice, sorted by path."""
        yield from self._db.execute("SELECT path, reason FROM skipped ORDER BY path, reason")
