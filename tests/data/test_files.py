"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from napari_tlseg.data.files import atomic_path, writable, write_text


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.nii.gz"
    with atomic_path(target) as path:
        assert path.parent == target.parent
        assert path.name.endswith("a.nii.gz")
        path.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert _names(target.parent) == ["a.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "scores.csv"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as path:
        path.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["scores.csv"]


def test_a_block_that_raises_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError), atomic_path(tmp_path / "a.png") as path:
        path.write_text("half")
        raise ValueError
    assert _names(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    target = tmp_path / "split.csv"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["split.csv"]


@pytest.mark.skipif(os.name == "nt", reason="Windows folders are not flushed")
def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync
    calls: list[int] = []

    def only_files(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "fsync", only_files)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert len(calls) == 2


def test_text_is_utf_8_with_its_own_newlines(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "λ,Dice\r\nä,1\n")
    assert (tmp_path / "a.csv").read_bytes() == "λ,Dice\r\nä,1\n".encode()


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_new_file_has_the_mode_any_file_would_have(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.csv", "a")
        assert (tmp_path / "a.csv").stat().st_mode & 0o777 == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_folder_without_write_permission_is_not_writable(tmp_path: Path) -> None:
    assert writable(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert not writable(tmp_path)
    finally:
        tmp_path.chmod(0o755)
