"""Noisy student as a command: rounds as folders, what is learned, what a person says, and a power cut."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.formats import read_geometry, read_image
from napari_tlseg.data.pseudo import FOLDER, TABLE, UNSURE, decide, read_pseudo
from napari_tlseg.data.run import jsonable, read_summary
from napari_tlseg.engine.predicting import load_run, load_segmenter
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Stepped, Visited
from napari_tlseg.learn.noisy import IGNORED
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.checkpoint import load
from napari_tlseg.studies import student as module
from napari_tlseg.studies.pseudo import guess
from napari_tlseg.studies.teaching import Student
from tiny import FAST, disc, write_chests, write_eyes

Capture = pytest.CaptureFixture[str]
QUICK = {"steps": 2, "size": 32, "batch": 2, "device": "cpu", "precision": "float32"}


def job(eyes: Path, **options: object) -> Student:
    given = {"data": eyes, "unlabelled": eyes.parent / "more", "out": eyes.parent / "run", **QUICK, **options}
    return Student(**given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`eyes` with masks, `more` without, of which one is also among the eyes; and a run of two rounds."""
    root = tmp_path_factory.mktemp("student")
    eyes = write_eyes(root / "eyes")
    (root / "more").mkdir()
    for number in range(4):
        Image.fromarray(disc(100 + number)[0]).save(root / "more" / f"more{number}.png")
    shutil.copy(eyes / "images" / "eye0.png", root / "more" / "again.png")
    flags = ["--unlabelled", str(root / "more"), "--source", "none", "--out", str(root / "run"), "--rounds", "2"]
    command = [sys.executable, "-m", "napari_tlseg.cli", "student", str(eyes), *flags, *FAST]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 images without a mask are also in eyes: left out." in done.stdout
    assert "Round 2: the student learns from" in done.stdout and "more --rounds goes on" in done.stdout
    return root


@pytest.fixture
def eyes(made: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "eyes"


def cases(root: Path) -> dict[str, Case]:
    return {case.name: case for case in read_dataset(root / "more")}


def test_the_run_folder_is_that_of_its_last_round(made: Path) -> None:
    run, last = made / "run", made / "run" / "rounds" / "2"
    assert load(run / "model.safetensors").sha256 == load(last / "model.safetensors").sha256
    for name in ("scores.csv", "events.jsonl"):
        assert (run / name).read_bytes() == (last / name).read_bytes()
    assert {path.name for path in (run / "masks").iterdir()} == {path.name for path in (last / "masks").iterdir()}
    assert len(list((run / "overlays").iterdir())) == 3
    summary = read_summary(run)
    assert summary["rounds"] and {**summary, "rounds": 0} == {**read_summary(last), "rounds": 0}
    assert [row["round"] for row in summary["rounds"]] == [0, 1, 2]
    assert [row["pseudo"] and row["pseudo"]["images"] for row in summary["rounds"]] == [None, 4, 4]
    record = json.loads((run / "job.json").read_text())
    assert (record["job"], record["rounds"], record["threshold"]) == ("student", 2, 0.9)


def test_pseudo_labels_are_what_the_round_would_predict(made: Path) -> None:
    folder = made / "run" / "rounds" / "1" / FOLDER
    out = made / "predicted"
    assert (
        main(["predict", str(made / "more"), "--model", str(folder.parent), "--out", str(out), "--device", "cpu"]) == 0
    )
    assert set(read_pseudo(folder)) == {f"more{number}.png" for number in range(4)}
    for number in range(4):
        assert (folder / f"more{number}.png").read_bytes() == (out / f"more{number}.png").read_bytes()
    assert (folder / "model.json").read_text() == (out / "model.json").read_text()


def test_the_student_remembers_what_it_and_its_teacher_saw(made: Path) -> None:
    """So that an image is known again when it is scored one day."""
    teacher, last = (set(load(made / "run" / "rounds" / n / "model.safetensors").provenance.seen) for n in "02")
    shown = {fingerprint(case) for name, case in cases(made).items() if name != "again"}
    assert last == teacher | shown and len(teacher) == 6


def test_what_is_less_sure_than_the_threshold_is_not_learned(made: Path) -> None:
    case = cases(made)["more1"]
    segmenter = load_segmenter(job(made / "eyes"), load_run(made / "run"))
    chances = next(segmenter.chances(read_image(case.image)))[0]
    threshold = float(np.quantile(np.maximum(chances, 1 - chances), 0.4))
    labels, unsure, confidence = guess(segmenter, case, threshold, Control())
    assert (labels[0] == (chances > 0.5)).all()
    assert (unsure[0] == (np.maximum(chances, 1 - chances) < threshold)).all() and 0.3 < unsure.mean() < 0.5
    marked = chances > 0.5
    assert confidence == pytest.approx(chances[marked].mean() if marked.any() else 1 - chances.mean(), rel=1e-5)
    assert guess(segmenter, case, 0.0, Control())[1].sum() == 0


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[list[Sample]]:
    """The pseudo-labelled samples of each student that is trained."""
    seen: list[list[Sample]] = []
    real = module.NoisyStudent

    def spy(labelled, pseudo, *rest):  # type: ignore[no-untyped-def]
        seen.append(list(pseudo))
        return real(labelled, pseudo, *rest)

    monkeypatch.setattr(module, "NoisyStudent", spy)
    return seen


def finish(student: Student) -> Finished:
    *_, last = student.run()
    assert isinstance(last, Finished)
    return last


def test_the_next_round_honours_what_a_person_says(eyes: Path, learned: list[list[Sample]]) -> None:
    """Rejected: not learned from. Accepted: all of it is. Else what is sure enough."""
    folder = eyes.parent / "run" / "rounds" / "2" / FOLDER
    for number in range(3):  # as of a teacher who is in doubt
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(folder / UNSURE / f"more{number}.png")
    decide(folder, "more0.png", True)
    decide(folder, "more1.png", False)
    summary = finish(job(eyes, rounds=3)).summary
    (samples,) = learned
    ignored = {sample.case: sample.labels == IGNORED for sample in samples if sample.labels is not None}
    assert ignored.keys() == {"more0", "more2", "more3"}
    frame = samples[0].frame
    assert not ignored["more0"].any() and ignored["more2"][frame.window].all()
    assert not ignored["more2"].all()  # around the image it is background, as in masks
    assert summary["pseudo"] | {"pixels": 0} == {"images": 3, "accepted": 1, "rejected": 1, "pixels": 0}
    assert len(summary["rounds"]) == 4


def test_where_all_are_rejected_there_is_nothing_to_learn(eyes: Path) -> None:
    run = eyes.parent / "run"
    for key in read_pseudo(run / "rounds" / "2" / FOLDER):
        decide(run / "rounds" / "2" / FOLDER, key, False)
    before = read_summary(run)
    with pytest.raises(InputError, match="all pseudo-labels are rejected"):
        finish(job(eyes, rounds=3))
    assert read_summary(run) == before and not (run / "rounds" / "3").exists()


def test_images_of_the_data_itself_can_be_the_unlabelled_ones(eyes: Path) -> None:
    """Those that are held out, or validate, stay out; and their masks lie with the run's, to be looked at."""
    for number in range(6):
        Image.fromarray(disc(200 + number)[0]).save(eyes / "images" / f"new{number}.png")
    summary = finish(job(eyes, unlabelled=eyes, out=eyes.parent / "own", rounds=0)).summary
    table = read_pseudo(eyes.parent / "own" / "rounds" / "0" / FOLDER)
    rows = (line.split(",") for line in (eyes / "split.csv").read_text().splitlines())
    parts = dict(row for row in rows)  # type: ignore[arg-type]
    assert {Path(key).stem for key in table} == {n for n, p in parts.items() if p == "training" and n[:3] == "new"}
    assert 0 < len(table) < 6 and len(summary["rounds"]) == 1
    masks = {path.stem for path in (eyes.parent / "own" / "masks").glob("*.png")}
    assert masks >= {Path(key).stem for key in table}


def test_a_given_teacher_is_not_trained_and_what_it_saw_is_known(eyes: Path) -> None:
    """One that was trained on a case that is held out here: its score, and its students', are left out."""
    root = eyes.parent
    other = write_eyes(root / "other")
    assert main(["finetune", str(other), "--out", str(root / "teacher"), "--held-out", "0", "--seed", "5", *FAST]) == 0
    summary = finish(job(eyes, out=root / "taught", teacher=root / "teacher")).summary
    zero = load(root / "taught" / "rounds" / "0" / "model.safetensors")
    assert all((zero.tensors[n] == t).all() for n, t in load(root / "teacher" / "model.safetensors").tensors.items())
    assert not any(
        json.loads(line)["event"] == "Stepped"
        for line in (root / "taught" / "rounds" / "0" / "events.jsonl").read_text().splitlines()
    )
    assert summary["scored"] == 0 and sorted(summary["seen"]) == sorted(summary["cases"])


def stopped_at(student: Student, when: Callable[[Event], bool]) -> Finished:
    control = Control()
    for event in student.run(control):
        control.stop = control.stop or when(event)
    assert isinstance(event, Finished) and event.reason == "stopped"
    return event


def test_a_stop_in_the_first_training_keeps_its_model_and_it_is_trained_anew(eyes: Path) -> None:
    out = eyes.parent / "new"
    end = stopped_at(job(eyes, out=out, steps=50), lambda event: isinstance(event, Stepped))
    assert end.out == out and load(out / "model.safetensors") and read_summary(out)["reason"] == "stopped"
    assert not (out / "rounds" / "0" / FOLDER).exists()


def test_a_stop_before_anything_is_learned_leaves_nothing(eyes: Path) -> None:
    out = eyes.parent / "new"
    assert stopped_at(job(eyes, out=out), lambda event: isinstance(event, Visited)).out is None
    assert not out.exists()


def is_labelled(event: Event) -> bool:
    return isinstance(event, Visited) and event.path is not None and event.path.parent.name == FOLDER


def test_a_stop_while_labelling_goes_on_there(eyes: Path) -> None:
    out = eyes.parent / "new"
    assert stopped_at(job(eyes, out=out), is_labelled).out == out
    assert load(out / "model.safetensors") and not (out / "rounds" / "0" / FOLDER / TABLE).exists()
    before = (out / "rounds" / "0" / "summary.json").stat().st_mtime_ns
    assert len(finish(job(eyes, out=out)).summary["rounds"]) == 2
    assert (out / "rounds" / "0" / "summary.json").stat().st_mtime_ns == before


CUT = """
import json, os, sys
from napari_tlseg import cli
tell = cli.tell_json
def cut(event):
    tell(event)
    if getattr(event, "text", "").startswith("Round 3"):
        os._exit(9)
cli.tell_json = cut
cli.main(sys.argv[1:])
"""
"""The command, whose process is gone at once when the student of the third round is about to train."""


def test_it_goes_on_where_it_was_killed(eyes: Path) -> None:
    """What was whole before stays, bit for bit."""
    run, root = eyes.parent / "run", eyes.parent
    flags = ["--unlabelled", str(root / "more"), "--out", str(run), "--rounds", "3", "--json", *FAST]
    assert (
        subprocess.run([sys.executable, "-c", CUT, "student", str(eyes), *flags], stdout=subprocess.DEVNULL).returncode
        == 9
    )
    assert (run / "rounds" / "3" / "job.json").exists() and not (run / "rounds" / "3" / "summary.json").exists()
    models = {number: (run / "rounds" / number / "model.safetensors").read_bytes() for number in "012"}
    assert (run / "model.safetensors").read_bytes() == models["2"]
    decide(run / "rounds" / "2" / FOLDER, "more0.png", False)
    events = list(job(eyes, rounds=3).run())
    assert sum(isinstance(event, Stepped) for event in events) == 2  # of that student alone
    assert all((run / "rounds" / number / "model.safetensors").read_bytes() == models[number] for number in "012")
    assert any(isinstance(event, Noted) and "3 pseudo-labels (0 accepted, 1 rejected" in event.text for event in events)
    assert load(run / "model.safetensors").sha256 == read_summary(run)["sha256"]
    assert len(read_summary(run)["rounds"]) == 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"threshold": 0.8}, "holds a student with another threshold"),
        ({"rounds": 1}, "holds 2 rounds already"),
        ({"overwrite": True, "source": "run"}, "needed in every round"),
        ({"out": "new", "teacher": "focused"}, "such model"),
        ({"out": "eyes"}, "not a run folder"),
        ({"out": "new", "unlabelled": "eyes"}, "no image to learn from without a mask"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    made: Path, options: dict[str, object], complaint: str
) -> None:
    paths = {name: made / str(options[name]) for name in options.keys() & {"source", "teacher", "out", "unlabelled"}}
    before = read_summary(made / "run")
    with pytest.raises(InputError, match=complaint):
        finish(job(made / "eyes", **{"rounds": 2, **options, **paths}))
    assert read_summary(made / "run") == before and not (made / "new").exists()


@pytest.mark.parametrize(
    "options",
    [{"rounds": -1}, {"threshold": 1.0}, {"dropout": 1.0}, {"unlabelled_weight": 0.0}, {"unlabelled_batch": 0}],
)
def test_an_impossible_option_is_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options)).replace("_", "-")):
        job(tmp_path, **options)


def test_volumes_of_several_classes_are_labelled_on_their_own_grid(tmp_path: Path) -> None:
    """And learned slice by slice; regions of interest bound what is found."""
    chests, out = write_chests(tmp_path / "chests", 8), tmp_path / "run"
    for number in range(5, 8):
        (chests / "masks" / f"chest{number}.nii.gz").unlink()
    summary = finish(job(chests, unlabelled=chests, out=out, steps=3)).summary
    folder = out / "rounds" / "1" / FOLDER
    labelled = [case for case in read_dataset(chests) if case.key in read_pseudo(folder)]
    assert labelled and summary["pseudo"]["images"] == len(labelled)
    for case in labelled:
        for file, classes in ((folder / f"{case.name}.nii.gz", 3), (folder / UNSURE / f"{case.name}.nii.gz", 2)):
            assert np.allclose(read_geometry(file).affine, case.geometry.affine, atol=1e-5)
            assert read_mask(case, classes, file).shape == (3, 48, 64)


def test_a_job_is_recalled_from_its_record(made: Path) -> None:
    record = json.loads((made / "run" / "job.json").read_text())
    again = Student.recalled(record, rounds=3, strength=math.inf)
    assert again == job(made / "eyes", rounds=3, strength=math.inf)
    assert Student.recalled(jsonable(asdict(again))) == again


def test_from_python(eyes: Path) -> None:
    end = journey.student(eyes, eyes.parent / "more", eyes.parent / "py", source="none", rounds=0, **QUICK)
    assert end.out == eyes.parent / "py" and end.summary["rounds"][0]["round"] == 0
