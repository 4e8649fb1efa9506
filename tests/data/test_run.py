"""A run folder is whole or not there, and never takes a user's own files with it."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.data.run import RunFolder, is_run, jsonable, read_summary, write_scores
from napari_tlseg.errors import InputError


def finished_run(path: Path) -> RunFolder:
    run = RunFolder.create(path)
    run.write_job({"job": "finetune"})
    run.append_event({"step": 1})
    run.masks.mkdir()
    (run.masks / "old.png").write_bytes(b"old")
    run.model.write_bytes(b"weights")
    run.write_summary({"lambda": 1.0})
    return run


def test_a_run_writes_its_records(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "deep" / "run")
    assert not is_run(run.path)
    run.write_job({"job": "finetune", "lambda": math.inf, "data": Path("eyes")})
    run.append_event({"step": 1, "loss": 0.5, "mask": np.zeros((4, 4))})
    run.append_event({"step": 2, "loss": math.nan})
    write_scores(
        run.scores, [{"case": "a", "part": "held-out", "class": "disc", "dice": 0.5}, {"case": "b", "hd95": math.nan}]
    )
    run.write_summary({"lambda": math.inf, "dice_mean": np.float32(0.5), "hd95": math.nan})
    assert json.loads((run.path / "job.json").read_text()) == {"job": "finetune", "lambda": "inf", "data": "eyes"}
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert events == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}]
    with (run.path / "scores.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {"case": "a", "part": "held-out", "class": "disc", "dice": "0.5", "hd95": ""}
    assert second["hd95"] == second["dice"] == ""
    summary = read_summary(run.path)
    assert summary == {"lambda": "inf", "dice_mean": 0.5, "hd95": None}
    assert float(summary["lambda"]) == math.inf
    assert is_run(run.path)


def test_an_earlier_run_is_kept_without_overwrite(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    with pytest.raises(InputError, match="--overwrite"):
        RunFolder.create(tmp_path / "run")
    assert read_summary(tmp_path / "run") == {"lambda": 1.0}


def test_overwrite_replaces_all_of_the_run_and_nothing_else(tmp_path: Path) -> None:
    path = finished_run(tmp_path / "run").path
    (path / "notes.txt").write_text("mine")
    run = RunFolder.create(path, overwrite=True)
    assert {entry.name for entry in path.iterdir()} == {"notes.txt", ".replaced"}
    run.write_job({"job": "finetune"})
    run.write_summary({"lambda": 2.0})
    assert {entry.name for entry in path.iterdir()} == {"notes.txt", "job.json", "summary.json"}
    assert read_summary(path) == {"lambda": 2.0}


def test_a_failed_overwrite_gives_the_earlier_run_back(tmp_path: Path) -> None:
    path = finished_run(tmp_path / "run").path
    before = {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    run = RunFolder.create(path, overwrite=True)
    run.write_job({"job": "other"})
    run.masks.mkdir()
    (run.masks / "new.png").write_bytes(b"new")
    run.discard()
    assert {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_users_folder_is_never_taken(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"years")
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.create(tmp_path, overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.docx"]


def test_discard_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a" / "b")
    run.write_job({})
    run.append_event({"step": 1})
    run.discard()
    assert list(tmp_path.iterdir()) == []


def test_discard_keeps_a_folder_that_was_there_and_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty").discard()
    assert (tmp_path / "empty").is_dir()
    run = RunFolder.create(tmp_path / "new")
    (run.path / "notes.txt").write_text("mine")
    run.discard()
    assert (run.path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "locked" / "a" / "run", tmp_path / "locked", tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError) as caught:
            RunFolder.create(path)
        assert caught.value.path == path
    with pytest.raises(InputError):
        RunFolder.create(tmp_path / ("x" * 300))
    assert {entry.name for entry in tmp_path.rglob("*")} == {"locked", "file"}


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_a_summary_that_is_missing_or_broken_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    with pytest.raises(InputError, match=r"summary"):
        read_summary(tmp_path)


def test_an_unwritable_record_leaves_the_earlier_one(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    with pytest.raises(TypeError):
        run.write_summary({"lambda": np.zeros(3)})
    assert read_summary(run.path) == {"lambda": 1.0}
    assert not list(run.path.glob(".writing-*"))


class Solver(Enum):
    STABLE = "stable"


@dataclass(frozen=True)
class Options:
    strength: float
    out: Path
    sizes: tuple[int, ...]


def test_jsonable_keeps_what_a_record_needs() -> None:
    assert jsonable(Options(math.inf, Path("run"), (2, 4))) == {"strength": "inf", "out": "run", "sizes": [2, 4]}
    assert jsonable([np.int64(3), np.bool_(True), np.float32("nan"), -math.inf]) == [3, True, None, "-inf"]
    assert jsonable({Solver.STABLE: {2, 1}, math.inf: range(2), 3: None}) == {
        "stable": [1, 2],
        "inf": [0, 1],
        "3": None,
    }
    assert type(jsonable(np.float64(0.5))) is float
    for foreign in (np.zeros(2), object(), b"bytes", Options):
        with pytest.raises(TypeError):
            jsonable(foreign)


records = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner) | st.tuples(inner),
    max_leaves=8,
)


@given(records)
def test_every_record_is_strict_json_and_stays_as_it_is(record: object) -> None:
    plain = jsonable(record)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain == jsonable(plain)


def test_a_run_killed_while_it_replaces_another_leaves_the_earlier_one_to_come_back(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run")
    run.write_job({"job": "first"})
    run.write_summary({"dice_mean": 0.9})
    RunFolder.create(run.path, overwrite=True)  # killed before it wrote anything
    again = RunFolder.create(run.path, overwrite=True)
    again.write_job({"job": "third"})
    again.discard()
    assert read_summary(run.path) == {"dice_mean": 0.9}
    assert json.loads((run.path / "job.json").read_text()) == {"job": "first"}
