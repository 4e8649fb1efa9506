"""Cross-validation over λ: which cases are where, what is kept, and that it goes on where it was ended."""

from __future__ import annotations

import csv
import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from napari_tlseg.cli import main
from napari_tlseg.data.case import Case
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.run import read_summary
from napari_tlseg.events import Control, Finished, Visited
from napari_tlseg.learn.metrics import case_means
from napari_tlseg.studies import places, trials
from napari_tlseg.studies.crossval import arms_of
from napari_tlseg.studies.jobs import Crossval, Trial
from napari_tlseg.studies.trials import make_folds
from tiny import FAST, write_eyes

TINY = ("--folds", "2", "--lambdas", "inf,0", *FAST)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images a patient, with a source and a study."""
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 12)
    rows = [f"eye{number}.png,patient{number // 2}" for number in range(12)]
    (root / "patients.csv").write_text("\n".join(["image,patient", *rows]) + "\n")
    assert main(["pretrain", str(root), "--out", str(root / "clicks.safetensors"), *FAST]) == 0
    assert main(["crossval", *arguments(root, root / "study"), *TINY]) == 0
    return root


def arguments(root: Path, out: Path) -> list[str]:
    return [str(root), "--source", str(root / "clicks.safetensors"), "--out", str(out)]


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=12), count=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_keep_patients_together_and_hold_every_case_once(sizes: list[int], count: int, seed: int) -> None:
    geometry = Geometry(shape=(4, 4), spacing=(1.0, 1.0))
    cases = [
        Case(name=f"{patient}-{number}", image=Path("x"), geometry=geometry, patient=str(patient))
        for patient, size in enumerate(sizes)
        for number in range(size)
    ]
    folds = make_folds(cases, count, seed)
    assert len(folds) == min(count, len(sizes)) and all(folds)
    assert sorted(name for fold in folds for name in fold) == sorted(case.name for case in cases)
    where = {name: number for number, fold in enumerate(folds) for name in fold}
    assert all(len({where[c.name] for c in cases if c.patient == str(p)}) == 1 for p in range(len(sizes)))
    assert max(map(len, folds)) - min(map(len, folds)) <= max(sizes)


def test_every_case_outside_the_held_out_ones_is_scored_once_at_each_strength(eyes: Path) -> None:
    rows, split = table(eyes / "study" / "scores.csv"), table(eyes / "split.csv")
    pool = {row["case"] for row in split if row["part"] != "held-out"}
    assert Counter(row["case"] for row in rows) == dict.fromkeys(pool, 3)
    assert {row["lambda"] for row in rows} == {"inf", "0.0", ""}
    assert {row["patient"] for row in rows} == {f"patient{int(name[3:]) // 2}" for name in pool}


def test_each_strength_is_trained_anew_unless_warm(eyes: Path) -> None:
    names = [case.name for case in read_dataset(eyes).labelled]

    def stages(strengths: tuple[float, ...], warm: float) -> list[dict[str, object]]:
        job = Trial(
            data=eyes,
            out=eyes / "none",
            source=eyes / "clicks.safetensors",
            training=tuple(names[:4]),
            test=tuple(names[4:6]),
            strengths=strengths,
            warm=warm,
            steps=4,
            size=32,
            batch=2,
            device="cpu",
        )
        *_, last = job.run()
        assert isinstance(last, Finished)
        found: list[dict[str, object]] = last.summary["stages"]
        return found

    alone = stages((0.0,), 0.0)
    assert stages((math.inf, 0.0), 0.0)[1:] == alone
    assert stages((math.inf, 0.0), 0.5)[1:] != alone


def test_what_is_scored_was_not_trained_on(eyes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Trial] = []

    def spy(job: Trial, control: Control) -> object:
        seen.append(job)
        yield Finished(reason="stopped", out=None)

    monkeypatch.setattr(trials, "trial", spy)
    study = Crossval(
        data=eyes, out=tmp_path / "study", source=eyes / "clicks.safetensors", folds=2, steps=2, size=32, batch=2
    )
    list(study.run())
    patients = {case.name: case.patient for case in read_dataset(eyes)}
    (job,) = seen
    assert job.training and job.test
    assert not {patients[name] for name in job.training} & {patients[name] for name in job.test}


def test_the_summary_recommends_and_tells_the_means_of_the_table(eyes: Path) -> None:
    summary, rows = read_summary(eyes / "study"), table(eyes / "study" / "scores.csv")
    assert summary["trials"] == summary["of"] == 4
    assert summary["recommended"] in ("∞", "0", "no source") and summary["words"]
    for arm in summary["arms"]:
        label = "" if arm["lambda"] is None else str(float(arm["lambda"]))
        means = [float(row["dice"]) for row in rows if row["lambda"] == label]
        assert arm["dice_mean"] == pytest.approx(sum(means) / len(means))  # two cases a patient, each
        assert arm["patients"] == len({row["patient"] for row in rows})


def test_each_strength_is_tested_against_plain_fine_tuning_by_patient() -> None:
    gains = (0.05, 0.02, -0.01, 0.04, 0.03, 0.06, 0.01)
    rows = [
        {"patient": f"{n}", "lambda": arm, "dice": 0.5 + n / 50 + share * gain + wave, "precision": 0.5, "drift": None}
        for n, gain in enumerate(gains)
        for arm, share in ((math.inf, 1), (0.0, 0), (None, -1))
        for wave in (-0.2, 0.2)  # of two cases, whose mean counts once
    ]
    p = {arm["lambda"]: arm["p_against_0"] for arm in arms_of(rows)}
    assert p[0.0] is None
    assert p[math.inf] == p[None] == pytest.approx(stats.wilcoxon(gains).pvalue)


def test_a_study_goes_on_where_it_was_ended(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Crossval(
        data=eyes,
        out=tmp_path / "study",
        source=eyes / "clicks.safetensors",
        strengths=(math.inf, 0.0),
        folds=2,
        steps=2,
        size=32,
        batch=2,
        device="cpu",
        precision="float32",
    )
    control = Control()
    for event in study.run(control):
        control.stop = control.stop or (isinstance(event, Visited) and event.path is not None)
    assert isinstance(event, Finished) and event.reason == "stopped" and event.summary["trials"] == 1
    (kept,) = (tmp_path / "study" / "trials").iterdir()
    before, done = kept.stat().st_mtime_ns, [e.case for e in study.run() if isinstance(e, Visited) and e.path]
    assert len(done) == 3 and kept.stem not in done and kept.stat().st_mtime_ns == before
    assert table(tmp_path / "study" / "scores.csv") == table(eyes / "study" / "scores.csv"), "as in one go"


def test_a_source_that_was_replaced_in_the_middle_is_noticed(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(eyes / "study", tmp_path / "study")
    kept = tmp_path / "study" / "trials" / "fold-1-source.json"
    kept.write_text(kept.read_text().replace(read_summary(eyes / "study")["source_sha256"], "0" * 64))
    assert main(["crossval", *arguments(eyes, tmp_path / "study"), *TINY]) == 2
    assert "two sources of the same name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--source", "none"], "needs a source"),
        (["--folds", "1"], "--folds"),
        (["--lambdas", "auto"], "same λ in every fold"),
        (["--steps", "3"], "holds another study"),
    ],
)
def test_what_cannot_be_is_said(
    flags: list[str], complaint: str, eyes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["crossval", *arguments(eyes, eyes / "study"), *TINY, *flags]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1


def test_a_folder_of_something_else_is_left_alone(eyes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossval", *arguments(eyes, eyes / "images"), *TINY]) == 2
    assert "holds no study" in capsys.readouterr().err


def test_worker_processes_do_the_same_trials(eyes: Path) -> None:
    """As on a machine of several GPUs, here with the processor twice."""
    fold = make_folds([case for case in read_dataset(eyes) if case.mask], 2, 0)
    job = Trial(
        data=eyes,
        out=eyes / "nowhere",
        source=eyes / "clicks.safetensors",
        strengths=(math.inf, 0.0),
        training=fold[0],
        test=fold[1],
        steps=2,
        size=32,
        batch=2,
        device="cpu",
        precision="float32",
    )
    here = trials.Result(trials.finish_trial(job))
    with places.Devices(("cpu", "cpu")) as executor:
        there = [future.result() for future in [executor.submit(trials.finish_trial, job) for _ in range(2)]]
    for summary in there:
        assert [case_means([trials.Score(**s) for s in stage["scores"]], "dice") for stage in summary["stages"]] == [
            here.dice(arm) for arm in here.arms
        ]
