"""Packs slices of any kind into one HDF5 file: ``pack``."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.catalog import Catalog, FileRow
from data_tools.console import CommandError, UsageError, counted, first_line, note, one_line, progress, say, warn
from data_tools.decode import DecodedVolume, DecodeSettings, decode_batch, read_keys
from data_tools.doubts import doubts
from data_tools.info import describe, headline, summary_lines
from data_tools.leaks import refuse_shared_pixels
from data_tools.scan import base_folder, is_source, scan
from data_tools.settings import PackSettings
from data_tools.slicefile import SliceReader
from data_tools.slicewriter import SliceWriter
from data_tools.splits import split_of_folder
from data_tools.staging import publish, staged
from data_tools.subjects import FILE_RULE, SubjectRules, SubjectTable, compiled_pattern
from data_tools.workers import Run, decoding

_BATCH_FILES = 32
_BATCH_BYTES = 1 << 20
"""Small files go to the workers together, so that sending them costs little."""


def pack(settings: PackSettings) -> None:
    """Pack ``settings.src`` into ``settings.output``, with a report beside it.

    Raises CommandError, and leaves nothing behind, where no slice can be read, where a subject or the same pixels
    would be on both sides of a split, where ``strict`` forbids what was skipped, or where the disk is full.
    """
    if settings.output.is_dir():
        raise UsageError(f"--output {settings.output} is a folder; give the file to write, e.g. brain.h5")
    if settings.output.exists() and not settings.overwrite:
        raise UsageError(f"{settings.output} exists; --overwrite replaces it")
    if settings.output.is_file() and is_source(settings.output):
        raise UsageError(f"{settings.output} is a picture or volume, which --overwrite leaves alone")
    if settings.report.exists() and not settings.overwrite and not _is_report(settings.report):
        raise UsageError(f"{settings.report} exists, where the report would go; give another --output, or --overwrite")
    base_folder(settings.src)
    try:
        with staged(settings.output) as folder, contextlib.closing(_Packing(settings, folder)) as packing:
            packing.read()
            facts = packing.finish()
    except (OSError, RuntimeError, sqlite3.Error) as error:
        raise CommandError(f"{settings.output}: could not be written ({first_line(error)})") from error
    packing.tell(facts)


class _Packing:
    """One run of ``pack``: what is known, what is written, and what is counted."""

    def __init__(self, settings: PackSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._catalog = Catalog(folder / "catalog.sqlite")
        table = SubjectTable.read(settings.subjects) if settings.subjects else None
        self._table = table
        self._classes = table.classes if table else []
        self._rules = SubjectRules(table, compiled_pattern(settings.subject_pattern))
        self._writer: SliceWriter | None = None
        self._counts = Counter[str]()
        self._doubts: list[str] = []

    def close(self) -> None:
        """Close what is open; after an error the file need not be whole."""
        self._catalog.close()
        if self._writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.close()

    def read(self) -> None:
        """Read every file and stream its slices into the staged file."""
        settings, catalog = self._settings, self._catalog
        base = scan(settings.src, catalog, self._skip)
        self._writer = SliceWriter(
            self._folder / "slices.h5", compression=settings.compression, path_bytes=catalog.longest_path
        )
        decode = DecodeSettings(
            base, settings.axis, settings.volume, settings.window, settings.min_foreground, settings.compression
        )
        with decoding(settings.processes, decode) as run:
            self._note_series(run, base)
            volumes = itertools.chain.from_iterable(run(decode_batch, _batches(catalog.files())))
            for volume in progress(volumes, total=catalog.count_volumes(), label="packing"):
                self._add(volume, self._writer)

    def finish(self) -> dict[str, Any]:
        """Decide the splits, look for leaks, write the rest and put the file in its place; return what it holds."""
        self._refuse()
        assert self._writer is not None, "read comes first"
        splits = self._catalog.assign_splits(self._settings.split_shares)
        refuse_shared_pixels(
            self._writer.groups(), splits, byte_rows=self._catalog.byte_rows, path_of=self._writer.source_path
        )
        self._writer.write_names("subjects", self._catalog.subject_names(), self._catalog.longest_name())
        self._writer.write_names("classes", self._classes, max((len(n.encode()) for n in self._classes), default=1))
        rules = {"subject_rules": self._catalog.rules(), "split_rules": self._catalog.split_rules()}
        self._writer.finish(splits, {"settings": self._recorded(), **rules})
        self._writer.close()
        with SliceReader(self._folder / "slices.h5") as reader:
            facts = describe(reader)
        self._doubts = list(doubts(self._catalog, self._counts["pictures"], facts["subjects"]))
        self._write_report(facts)
        self._settings.report.unlink(missing_ok=True)  # at no moment does a report lie beside other data than its own
        publish(self._folder / "slices.h5", self._settings.output)
        publish(self._folder / "report.json", self._settings.report)
        return facts

    def _note_series(self, run: Run, base: Path) -> None:
        paths = self._catalog.dicom_paths()
        chunks = iter(lambda: list(itertools.islice(paths, _BATCH_FILES)), [])
        for keys in run(partial(read_keys, base), chunks):
            for path, key in keys:
                self._catalog.add_series(path, patient=key.patient, study=key.study, series=key.series)
        shared = sorted(self._catalog.shared_patients())
        if shared:
            names = ", ".join(repr(name) for name in shared[:3]) + (" ..." if len(shared) > 3 else "")
            warn(f"DICOM patient ids that are empty or shared by several studies ({names}): each series is a subject")

    def _skip(self, path: str, reason: str, *, readable: bool = False) -> None:
        """Name a file that gives no slice: one line on stderr, and one entry in the report."""
        self._counts["skipped"] += 1
        self._counts["unreadable"] += not readable
        note(one_line(f"{path}: {reason}"))
        self._catalog.add_skipped(path, one_line(reason))

    def _add(self, volume: DecodedVolume, writer: SliceWriter) -> None:
        for number, reason in sorted(volume.unreadable.items()):
            self._skip(volume.rows[number].path, reason)
        if volume.other_volumes:
            self._counts["other_volumes"] += volume.other_volumes
            chosen = f"volume {self._settings.volume} of {volume.other_volumes + 1}, counted from 0, is packed"
            note(one_line(f"{volume.rows[0].path}: {chosen}; --volume takes another"))
        owners: dict[int, tuple[int, int, int]] = {}
        for number, encoded in volume.slices:
            if number not in owners:
                owners[number] = self._add_source(volume, number, writer)
            source, subject, label = owners[number]
            group, row = writer.add_slice(encoded, source=source, subject=subject, label=label)
            if encoded.may_be_bytes:
                self._catalog.add_byte_row(group, row)
        self._counts["slices"] += len(volume.slices)
        for number, dropped in sorted(volume.dropped.items()):
            self._counts["dropped"] += dropped
            if number not in owners:
                self._skip(volume.rows[number].path, "empty: --min-foreground leaves no slice of it", readable=True)

    def _add_source(self, volume: DecodedVolume, number: int, writer: SliceWriter) -> tuple[int, int, int]:
        """Write a file that gives slices; return its number, its subject's, and its class or -1."""
        path, facts = volume.rows[number].path, volume.facts[number]
        patient, series = self._catalog.patient_of(path) if volume.rows[number].is_dicom else ("", "")
        owner = self._rules.owner(path, patient=patient, series=series)
        source = writer.add_source(
            one_line(path),
            sha256=np.frombuffer(facts.sha256, np.uint8),
            slope=facts.slope,
            intercept=facts.intercept,
            noisy_air=facts.noisy_air,
        )
        label = self._classes.index(owner.label) if owner.label is not None else -1
        is_picture = len(volume.rows) == 1 and len(volume.slices) + sum(volume.dropped.values()) == 1
        self._counts["pictures"] += is_picture and owner.rule == FILE_RULE
        subject = self._catalog.add_subject(owner, split_of_folder(path), path, is_picture=is_picture)
        return source, subject, label

    def _refuse(self) -> None:
        """Raise where there is nothing to write, or something that must not be."""
        skipped = self._counts["skipped"]
        if not self._counts["slices"]:
            sources = " ".join(map(str, self._settings.src))
            raise CommandError(f"{sources}: no slice that can be packed ({counted(skipped, 'file')} skipped)")
        self._rules.check()
        if self._settings.strict and self._counts["unreadable"]:
            unreadable = counted(self._counts["unreadable"], "file")
            raise CommandError(f"--strict: {unreadable} could not be read; nothing is written")

    def _recorded(self) -> dict[str, Any]:
        """Return the settings that decide what is in the file; no path of this machine is among them."""
        settings = self._settings
        return {
            "axis": settings.axis,
            "volume": settings.volume,
            "min_foreground": settings.min_foreground,
            "subjects_sha256": self._table.digest if self._table else None,
            "subject_pattern": settings.subject_pattern,
            "split_shares": list(settings.split_shares),
            "window": list(settings.window) if settings.window else None,
        }

    def _write_report(self, facts: dict[str, Any]) -> None:
        """Write the report a line an entry, so that it need not be in memory however long it is."""
        left_out = {name: self._counts[name] for name in ("dropped", "other_volumes")}
        head = json.dumps(facts | left_out, indent=1, sort_keys=True)
        with (self._folder / "report.json").open("w") as file:
            file.write(head.removesuffix("\n}") + ',\n "skipped": [')
            for number, (path, reason) in enumerate(self._catalog.skipped()):
                file.write(("," if number else "") + "\n  " + json.dumps({"path": path, "reason": reason}))
            file.write("\n ]\n}\n")

    def tell(self, facts: dict[str, Any]) -> None:
        """Say what was packed and what was left out."""
        say(f"{self._settings.output}: {headline(facts)}")
        for line in summary_lines(facts):
            say(f"  {line}")
        empty, others, skipped = (self._counts[name] for name in ("dropped", "other_volumes", "skipped"))
        volumes = f"{counted(others, 'volume')} of 4-D files; " if others else ""
        say(f"  left out: {counted(empty, 'empty slice')}; {volumes}{counted(skipped, 'file')}")
        say(f"  report: {self._settings.report}")
        for warning in itertools.chain(self._rules.complaints(), self._doubts):
            warn(warning)


def _is_report(path: Path) -> bool:
    """Whether it is what ``pack`` wrote; its packed file may have been removed since."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text())
        return isinstance(found, dict) and {"digest", "skipped"} <= found.keys()
    return False


def _batches(rows: Iterable[FileRow]) -> Iterator[list[list[FileRow]]]:
    """Put volumes together to batches for the workers: a DICOM series is one volume, any other file one by itself."""
    batch: list[list[FileRow]] = []
    size = 0
    for is_dicom, volume in itertools.groupby(rows, key=lambda row: row.volume if row.is_dicom else None):
        for files in [list(volume)] if is_dicom else ([row] for row in volume):
            batch.append(files)
            size += sum(row.size for row in files)
            if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
