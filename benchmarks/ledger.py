"""A study as a ledger: one line of JSON per finished run, so that it can be stopped and continued another day."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Key = dict[str, Any]


class Ledger:
    """Runs by their key; a run that is there is not done again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def once(self, key: Key, work: Callable[[], Key]) -> Key:
        """The result of `work`, done now or before; it is on the disk before this returns."""
        for row in self.where(**key):
            return row
        row = key | work()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._rows.append(row)
        return row

    def where(self, **key: Any) -> list[Key]:
        """The rows that agree with `key`."""
        return [row for row in self._rows if all(row.get(name) == value for name, value in key.items())]


def unsplit(data: Path, into: Path) -> Path:
    """Links to all of a dataset but its split.csv: each seed draws its own, and the dataset stays as it is."""
    into.mkdir(parents=True)
    for path in data.iterdir():
        if path.name != "split.csv":
            (into / path.name).symlink_to(path.resolve())
    return into


def table(rows: Iterable[Iterable[object]]) -> str:
    """Rows of cells as Markdown; the first is the header."""
    lines = [[str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def spread(values: Iterable[float], form: str = "{:.3f}") -> str:
    """Mean ± standard deviation; a dash of nothing."""
    found = list(values)
    if not found:
        return "–"
    more = f" ± {form.replace('+', '').format(statistics.stdev(found))}" if len(found) > 1 else ""
    return form.format(statistics.fmean(found)) + more
