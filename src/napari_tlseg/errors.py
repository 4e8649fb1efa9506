"""The one exception whose text is meant for the person at the screen."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Something the user gave cannot be used: what is wrong, in which file, and what to do about it.

    >>> str(InputError("has no rows", Path("clicks.csv"), "click at least one image"))
    'clicks.csv: has no rows; click at least one image'
    """

    def __init__(self, reason: str, path: Path | None = None, remedy: str = "") -> None:
        self.reason, self.path, self.remedy = reason, path, remedy
        where = f"{path}: " if path is not None else ""
        super().__init__(where + "; ".join(part for part in (reason, remedy) if part))
