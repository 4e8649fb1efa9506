"""Clicks on the disk: kept, taken back, shared with other programs; no window."""

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_tlseg.data import files
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.errors import InputError
from napari_tlseg.gui.click.clicks import Clicks
from tiny import write_chests, write_eyes


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    folder = write_eyes(tmp_path / "eyes", count=4)
    (folder / "clicks.csv").unlink()
    return folder


def opened(folder: Path) -> Clicks:
    return Clicks(read_dataset(folder))


def table(folder: Path) -> dict[str, list[str]]:
    with (folder / "clicks.csv").open(newline="") as text:
        return {name: place for name, *place in list(csv.reader(text))[1:]}


def test_each_click_is_in_the_table_before_the_next(eyes: Path) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    clicks.set(cases[0], (10.0, 20.5))
    assert table(eyes) == {"eye0.png": ["10.0", "20.5"]}
    clicks.set(cases[2], ())
    assert table(eyes) == {"eye0.png": ["10.0", "20.5"], "eye2.png": ["", ""]}
    clicks.set(cases[0], (11.0, 21.0))
    assert table(eyes)["eye0.png"] == ["11.0", "21.0"], "one target per image"
    again = opened(eyes)
    assert len(again) == 2 and again[cases[0]] == (11.0, 21.0) and again[cases[2]] == ()
    assert [case.name for case in again] == ["eye0"], "no target is not a click"


def test_a_volume_has_a_z(tmp_path: Path) -> None:
    folder = write_chests(tmp_path / "chests", count=2)
    clicks, (first, second) = opened(folder), read_dataset(folder).cases
    clicks.set(first, (1.0, 20.0, 30.0))
    clicks.set(second, ())
    assert (folder / "clicks.csv").read_text().splitlines() == [
        *("image,z,y,x", "chest0.nii.gz,1.0,20.0,30.0", "chest1.nii.gz,,,"),
    ]
    assert read_dataset(folder).clicked == (read_dataset(folder)["chest0"],)


def test_undo_and_redo_go_across_cases(eyes: Path) -> None:
    clicks, (a, b, *_) = opened(eyes), read_dataset(eyes).cases
    clicks.set(a, (1.0, 2.0))
    clicks.set(b, (3.0, 4.0))
    clicks.set(a, (5.0, 6.0))
    assert clicks.undo() == a and table(eyes)["eye0.png"] == ["1.0", "2.0"]
    assert clicks.undo() == b and "eye1.png" not in table(eyes)
    assert clicks.undo() == a and table(eyes) == {}
    assert clicks.undo() is None and not clicks.can_undo
    assert [clicks.redo() for _ in range(4)] == [a, b, a, None]
    assert table(eyes) == {"eye0.png": ["5.0", "6.0"], "eye1.png": ["3.0", "4.0"]}
    clicks.undo()
    clicks.set(b, ())
    assert not clicks.can_redo, "what was taken back is gone with a new click"


def test_the_next_unclicked_goes_round_the_end(eyes: Path) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    clicks.set(cases[1], ())
    clicks.set(cases[3], (1.0, 1.0))
    assert clicks.next_unclicked(cases[0]) == cases[2]
    assert clicks.next_unclicked(cases[2]) == cases[0]
    assert clicks.next_unclicked(cases[0], besides={"eye2"}) is None
    clicks.set(cases[0], ())
    clicks.set(cases[2], ())
    assert clicks.next_unclicked(cases[0]) is None


def test_a_case_that_was_read_anew_is_the_same_case(eyes: Path) -> None:
    clicks = opened(eyes)
    (eyes / "masks" / "eye1.png").unlink()
    other = read_dataset(eyes)["eye1"]
    clicks.set(other, (1.0, 2.0))
    assert clicks.next_unclicked(other).name == "eye2"


def test_what_another_program_wrote_is_kept(eyes: Path) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    clicks.set(cases[0], (1.0, 2.0))
    other = opened(eyes)
    other.set(cases[1], (3.0, 4.0))
    clicks.set(cases[2], (5.0, 6.0))
    other.set(cases[3], ())
    assert set(table(eyes)) == {f"eye{number}.png" for number in range(4)}
    write_clicks(eyes, {"eye1.png": (9.0, 9.0)})
    clicks.set(cases[0], (7.0, 7.0))
    assert table(eyes) == {"eye0.png": ["7.0", "7.0"], "eye1.png": ["9.0", "9.0"]}


def test_two_that_click_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    folder = write_eyes(tmp_path / "eyes", count=60)
    (folder / "clicks.csv").unlink()
    code = """
import sys
from pathlib import Path
from napari_tlseg.data import files
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.gui.click.clicks import Clicks
dataset = read_dataset(Path(sys.argv[1]))
clicks = Clicks(dataset)
print("ready", flush=True)
sys.stdin.readline()
for case in dataset.cases[int(sys.argv[2]) :: 2]:
    clicks.set(case, (1.0, 2.0))
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for each in both:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin is not None
        each.stdin.close()  # go
    for each in both:
        with each:
            assert each.wait() == 0
    assert len(table(folder)) == 60


def test_a_table_that_another_program_keeps_is_said(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    with files.locked(eyes / "clicks.csv"), pytest.raises(InputError, match="in use by another program; try again"):
        clicks.set(cases[0], (1.0, 2.0))
    clicks.set(cases[0], (3.0, 4.0))
    assert table(eyes) == {"eye0.png": ["3.0", "4.0"]}


def test_undo_leaves_what_someone_else_clicked_since(eyes: Path) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    clicks.set(cases[0], (1.0, 2.0))
    clicks.set(cases[1], (3.0, 4.0))
    opened(eyes).set(cases[1], (30.0, 40.0))
    assert clicks.undo() == cases[0], "that of case 1 is no longer ours to take back"
    assert table(eyes) == {"eye1.png": ["30.0", "40.0"]}


@pytest.mark.parametrize(
    "fault",
    [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "Permission denied")],
    ids=["disk full", "held by Excel"],
)
def test_a_click_that_cannot_be_written_is_not_made(
    eyes: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    clicks.set(cases[0], (1.0, 2.0))
    before = (eyes / "clicks.csv").read_bytes()

    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        for change in (lambda: clicks.set(cases[1], (3.0, 4.0)), clicks.undo):
            with pytest.raises(OSError, match=fault.strerror):
                change()
    assert (eyes / "clicks.csv").read_bytes() == before and clicks[cases[1]] is None and len(clicks) == 1
    assert [path.name for path in eyes.iterdir() if path.name.startswith(".writing")] == []
    clicks.set(cases[1], (3.0, 4.0))
    assert len(table(eyes)) == 2
    assert clicks.undo() == cases[1] and clicks.undo() == cases[0], "the failed undo took nothing back"


def test_a_table_that_cannot_be_read_is_not_overwritten(eyes: Path) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    clicks.set(cases[0], (1.0, 2.0))
    (eyes / "clicks.csv").write_text("image;y;x\neye0.png;1;2\n")
    with pytest.raises(InputError, match="separated by ';'"):
        clicks.set(cases[1], (3.0, 4.0))
    assert "eye0.png;1;2" in (eyes / "clicks.csv").read_text() and clicks[cases[1]] is None


def test_a_folder_that_is_gone_is_said(eyes: Path) -> None:
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    eyes.rename(eyes.with_name("elsewhere"))
    with pytest.raises(OSError, match="No such file"):
        clicks.set(cases[0], (1.0, 2.0))
    assert not eyes.exists()


def test_a_killed_process_loses_no_click(eyes: Path) -> None:
    code = f"""
from itertools import count
from pathlib import Path
from napari_tlseg.data import files
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.gui.click.clicks import Clicks
folder = Path({str(eyes)!r})
dataset = read_dataset(folder)
clicks, cases = Clicks(dataset), dataset.cases
for number in count():
    clicks.set(cases[number % 4], (float(number % 40), 7.0))
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with process, process.stdout:
        for _ in range(30):
            done = int(process.stdout.readline())
        process.kill()
        done = max(done, *map(int, [line for line in process.stdout if line.endswith("\n")] or [done]))
    expected = [{(done - back) % 4: float((done - back) % 40) for back in range(4)} for done in (done, done + 1)]
    found = {int(name[3]): float(y) for name, (y, _) in table(eyes).items()}
    assert found in expected, "each that was confirmed is there, and at most the one in hand"


def test_the_pace_is_that_of_the_last_minute(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 102.0, 104.0])
    now = 0.0
    monkeypatch.setattr("napari_tlseg.gui.click.clicks.time.monotonic", lambda: now)
    clicks, cases = opened(eyes), read_dataset(eyes).cases
    assert clicks.pace == 0
    for case in cases:
        now = next(clock)
        clicks.set(case, (1.0, 1.0))
    assert clicks.pace == pytest.approx(30), "a click every 2 s, the one before the pause aside"
