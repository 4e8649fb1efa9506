"""The run folder: one fine-tuning and all it wrote."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from napari_tlseg.data.files import writable, write_text
from napari_tlseg.data.tables import write_rows
from napari_tlseg.errors import InputError

CONTENT = (
    "job.json",
    "events.jsonl",
    "model.safetensors",
    "localizer.safetensors",
    "scores.csv",
    "summary.json",
    "overlays",
    "masks",
    "path",
    "rounds",
    "figures",
    "report.html",
)
"""What a run writes; nothing else in its folder is ever touched."""
SCORES = ("case", "part", "class")
"""The first columns of scores.csv."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes. An earlier run that it replaces is set aside until the new one has its summary.

    >>> run = RunFolder.create(Path("run"))  # doctest: +SKIP
    >>> run.write_job({"job": "finetune", "lambda": math.inf})  # doctest: +SKIP
    """

    path: Path
    made: tuple[Path, ...] = ()
    """The folders that did not exist before, the innermost first."""

    @classmethod
    def create(cls, path: Path, overwrite: bool = False) -> RunFolder:
        """A new or empty folder, or with `overwrite` that of an earlier run."""
        with _failures_named(path):
            run = cls.check(path, overwrite)
            path.mkdir(parents=True, exist_ok=True)
            if is_run(path) or run._aside.exists():
                run._set_aside()
        return run

    @classmethod
    def check(cls, path: Path, overwrite: bool = False) -> RunFolder:
        """What `create` would give; InputError where it would fail, and nothing is made."""
        with _failures_named(path):
            made = tuple(folder for folder in (path, *path.parents) if not folder.exists())
            _require_writable(made[-1].parent if made else path, path)
            if not made and any(path.iterdir()):
                _require_replaceable(path, overwrite)
        return cls(path, made)

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def localizer(self) -> Path:
        return self.path / "localizer.safetensors"

    @property
    def scores(self) -> Path:
        return self.path / "scores.csv"

    @property
    def overlays(self) -> Path:
        return self.path / "overlays"

    @property
    def masks(self) -> Path:
        return self.path / "masks"

    def write_job(self, job: Mapping[str, Any]) -> None:
        write_text(self.path / "job.json", to_json(job))

    def append_event(self, event: Mapping[str, Any]) -> None:
        """One line of events.jsonl, on the disk at once; arrays in the event are left out."""
        numbers = {key: value for key, value in event.items() if not getattr(value, "ndim", 0)}
        with (self.path / "events.jsonl").open("a", encoding="utf-8", newline="\n") as file:
            file.write(to_json(numbers, indent=None))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """The run's last word; from here on the run it replaces is gone."""
        write_text(self.path / "summary.json", to_json(summary))
        shutil.rmtree(self._aside, ignore_errors=True)

    def discard(self) -> None:
        """Leave things as they were before `create`: an earlier run comes back, a new folder goes."""
        _remove(self.path)
        if self._aside.exists():
            _move(self._aside, self.path)
            self._aside.rmdir()
        for folder in self.made:
            with suppress(OSError):  # somebody else's file is in it
                folder.rmdir()

    @property
    def _aside(self) -> Path:
        return self.path / ".replaced"

    def _set_aside(self) -> None:
        if self._aside.exists():  # the run that was to replace it was killed: the earlier one is the one to keep
            _remove(self.path)
            return
        self._aside.mkdir()
        _move(self.path, self._aside)


def write_scores(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row per case and class; an undefined score is an empty cell."""
    columns = list(dict.fromkeys([*SCORES, *(column for row in rows for column in row)]))
    write_rows(path, columns, ([jsonable(row.get(c)) for c in columns] for row in rows))


def is_run(path: Path) -> bool:
    return (path / "job.json").is_file()


def read_summary(path: Path) -> dict[str, Any]:
    """summary.json of a run folder as it was written: `float(summary["lambda"])` understands "inf"."""
    file = path / "summary.json"
    if not file.exists():
        raise InputError("has no summary.json", path, "name the folder of a run that ended well")
    return read_json(file)


def read_json(file: Path) -> dict[str, Any]:
    """An object that `to_json` wrote."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", file, "run the job again") from None
    if not isinstance(content, dict):
        raise InputError("holds no record of a run", file, "run the job again")
    return content


def jsonable(value: Any) -> Any:
    """Plain JSON types only: ±∞ becomes "inf" or "-inf", NaN null, a path text, a dataclass an object.

    An array raises TypeError: records hold numbers.

    >>> jsonable({"lambda": math.inf, "hd95": math.nan, "out": Path("run"), "sizes": (2, 4)})
    {'lambda': 'inf', 'hd95': None, 'out': 'run', 'sizes': [2, 4]}
    """
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None if math.isnan(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [jsonable(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if getattr(value, "ndim", None) == 0:  # a scalar of NumPy or PyTorch
        return jsonable(value.item())
    raise TypeError(f"{type(value).__name__} has no place in a record of numbers and names")


def to_json(value: Mapping[str, Any], indent: int | None = 2) -> str:
    """As text with a newline at its end; `indent` None for one line."""
    return json.dumps(jsonable(value), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", path, "choose another folder") from None


def _require_writable(existing: Path, target: Path) -> None:
    if not existing.is_dir():
        raise InputError(f"cannot be made, {existing} is a file", target, "choose another folder")
    if not writable(existing):
        raise InputError("cannot be written to", target, "choose a folder you may write to")


def _require_replaceable(path: Path, overwrite: bool) -> None:
    if not (is_run(path) or RunFolder(path)._aside.exists()):
        raise InputError("is not empty and not a run folder", path, "choose another folder")
    if not overwrite:
        raise InputError("already holds a run", path, "choose another folder or add --overwrite")


def _present(folder: Path) -> Iterable[Path]:
    return [folder / name for name in CONTENT if (folder / name).exists()]


def _move(source: Path, target: Path) -> None:
    for path in _present(source):
        path.replace(target / path.name)


def _remove(folder: Path) -> None:
    for path in _present(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
