"""Where a path disagrees, as a command: what it keeps, that it goes on, and that it is of the masks of every λ."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_tlseg import read_dataset
from napari_tlseg.cli import main
from napari_tlseg.data.disagreement import Disagreements, Votes
from napari_tlseg.events import Control, Finished, Visited
from napari_tlseg.studies.jobs import Disagree, Scrub
from tiny import FAST, write_eyes

STEPS = ("--steps", "30", "--warm", "0.5", "--size", "32", "--batch", "4", "--device", "cpu", "--precision", "float32")
BARE = "eye11"


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 12)
    (root / "masks" / f"{BARE}.png").unlink()
    source = root / "clicks.safetensors"
    assert main(["pretrain", str(root), "--out", str(source), *FAST]) == 0
    out = ["--source", str(source), "--out", str(root / "path"), "--lambdas", "inf,0.01,0"]
    assert main(["path", str(root), *out, *STEPS]) == 0
    return root


@pytest.fixture
def eyes(walked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(walked, tmp_path / "eyes")


def test_it_is_of_the_masks_of_every_strength_and_names_the_next(
    eyes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["disagree", str(eyes), "--model", str(eyes / "path"), "--precision", "float32"]) == 0
    said, kept = capsys.readouterr().out, Disagreements(eyes / "path")
    found = kept.read()
    assert set(found) == {case.name for case in read_dataset(eyes)} and f"The next mask to draw: {BARE}" in said
    case, votes = read_dataset(eyes)[BARE], Votes(2)
    for strength in (np.inf, 0.01, 0.0):
        job = Scrub(data=eyes, model=eyes / "path", case=BARE, strength=strength, precision="float32")
        votes.add(next(job.run()).labels[None])
    assert votes.disagreement == pytest.approx(found[BARE]) and votes.disagreement > 0
    np.testing.assert_array_equal(kept.read_map(case), votes.percent())
    assert (eyes / "path" / "path" / "disagreement" / f"{BARE}.png").exists()


def test_it_goes_on_where_it_was_ended(eyes: Path) -> None:
    job, control = Disagree(data=eyes, model=eyes / "path"), Control()
    for event in job.run(control):
        control.stop = control.stop or isinstance(event, Visited)
    assert isinstance(event, Finished) and event.reason == "stopped" and len(event.summary["disagreement"]) == 1
    visited = [event.case for event in job.run() if isinstance(event, Visited)]
    assert len(visited) == 11
    assert not [event for event in job.run() if isinstance(event, Visited)], "all are there"
    again = Disagree(data=eyes, model=eyes / "path", cases=("eye3",), overwrite=True)
    assert [event.case for event in again.run() if isinstance(event, Visited)] == ["eye3"]


def test_what_cannot_be_is_said_in_one_line(eyes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["disagree", str(eyes), "--model", str(eyes / "path"), "--cases", "eye99"]) == 2
    assert "there is no case 'eye99'" in capsys.readouterr().err
    shutil.rmtree(eyes / "path" / "path")
    assert main(["disagree", str(eyes), "--model", str(eyes / "path")]) == 2
    assert "holds no path" in capsys.readouterr().err
