from __future__ import annotations

import errno
import json
import os
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from vqvae_dist.files import append_whole, sha256_file, write_file, write_json


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": [1, None, "é"]})
    assert json.loads(path.read_text()) == {"a": [1, None, "é"]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_file(path, b"old")

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_an_error_names_the_file_and_not_the_one_beside_it(tmp_path: Path) -> None:
    for path in (tmp_path / "absent" / "a", tmp_path):
        with pytest.raises(OSError, match=re.escape(f"{str(path)!r}")) as caught:
            write_file(path, b"content")
        assert caught.value.filename == str(path)


@pytest.mark.parametrize(("room", "kept"), [(100, b"one line\n"), (7, b"")])
def test_a_line_that_the_disk_takes_in_parts_is_appended_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, kept: bytes
) -> None:
    write, path = os.write, tmp_path / "a"

    def in_parts(descriptor: int, content: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, content[: min(room, 4)])
        room -= written
        return written

    monkeypatch.setattr(os, "write", in_parts)
    with path.open("ab") as file, pytest.raises(OSError, match="No space") if not kept else nullcontext():
        append_whole(file.fileno(), b"one line\n")
    assert path.read_bytes() == kept


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
