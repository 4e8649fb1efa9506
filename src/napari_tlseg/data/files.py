"""Files that are either whole or not there: written beside their place, flushed to the disk, then moved into it."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_tlseg.errors import InputError

PATIENCE = 3.0
"""Seconds that `locked` waits for another process, which needs some milliseconds."""


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, with the same suffixes, that replaces `target` when the block ends well.

    If the block raises, the temporary file is removed and an earlier `target` is left as it was.

    >>> with atomic_path(Path("mask.png")) as path:  # doctest: +SKIP
    ...     imwrite(path, mask)
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix="-" + target.name, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # before it is flushed, as that flushes this too
        _flush(temporary)
        os.replace(temporary, target)
        with suppress(OSError):  # some network file systems cannot flush a folder; the file itself is safe
            _flush(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically, with the newlines that `text` holds."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8", newline="")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all processes while `path` is read and written anew, by a lock file beside it that stays.

    InputError where another process keeps it for seconds. A folder that is gone is not made again.
    """
    path.parent.stat()
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=PATIENCE, poll_interval=0.002)
    try:
        lock.acquire()
    except Timeout:
        raise InputError("is in use by another program", path, "try again when that has ended") from None
    try:
        yield
    finally:
        lock.release()


def writable(folder: Path) -> bool:
    """Whether the user means this folder to be written to: its mode counts even for root."""
    return bool(folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)) and os.access(folder, os.W_OK)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
