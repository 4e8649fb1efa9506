"""Whose scores count: what a model has seen is marked, by the run and beside its masks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from napari_tlseg.data.run import read_summary
from napari_tlseg.engine import scoring
from napari_tlseg.engine.jobs import Predict, Score
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Event, Finished, Noted
from napari_tlseg.journey import finish
from napari_tlseg.learn.predict import Found
from tiny import write_chests, write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "batch": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eyes(tmp_path_factory.mktemp("eyes"))


@pytest.fixture(scope="module")
def source(eyes: Path) -> Path:
    out = eyes / "clicks.safetensors"
    finish(Pretrain(data=(eyes,), out=out, **TINY))
    return out


@pytest.fixture(scope="module")
def run(eyes: Path, source: Path) -> Path:
    finish(Finetune(data=eyes, out=eyes / "run", source=source, **TINY))
    return eyes / "run"


@pytest.fixture(scope="module")
def masks(eyes: Path, run: Path) -> Path:
    finish(Predict(data=(eyes,), model=run, out=eyes / "found", device="cpu"))
    return eyes / "found"


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def sentences(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Noted)]


def test_validation_cases_that_the_source_saw_are_marked_but_count(eyes: Path, run: Path) -> None:
    validation = read_summary(run)["validation"]
    assert validation["seen"] == validation["cases"] != []
    assert validation["scored"] == len(validation["cases"]) and validation["dice_mean"] is not None
    assert {row["part"]: row["seen"] for row in table(run / "scores.csv")} == {
        "validation": "True",
        "held-out": "False",
    }
    notes = [json.loads(line).get("text", "") for line in (run / "events.jsonl").read_text().splitlines()]
    assert "1 of 1 validation cases were seen by the source: a λ chosen on them leans towards large values." in notes


def test_held_out_cases_that_the_source_saw_are_left_out(eyes: Path, source: Path, tmp_path: Path) -> None:
    """After a new split."""
    (eyes / "split.csv").rename(tmp_path / "split.csv")
    try:
        last = finish(Finetune(data=eyes, out=tmp_path / "run", source=source, seed=3, **TINY))
    finally:
        (tmp_path / "split.csv").replace(eyes / "split.csv")
    seen = last.summary["seen"]
    assert seen and set(seen) <= set(last.summary["cases"])
    assert last.summary["scored"] == len(last.summary["cases"]) - len(seen)


def test_what_a_model_saw_survives_prediction(eyes: Path, run: Path, masks: Path, tmp_path: Path) -> None:
    card = json.loads((masks / "model.json").read_text())
    assert card["sha256"] == read_summary(run)["sha256"] and len(card["seen"]) == 6
    *events, last = Score(predictions=masks, data=eyes, out=tmp_path / "s.csv").run()
    assert "6 of 8 cases were seen by the model: their scores are marked and not in the means." in sentences(events)
    assert isinstance(last, Finished)
    assert last.summary["training"]["dice_mean"] is None and len(last.summary["training"]["seen"]) == 5
    assert last.summary["held-out"]["scored"] == 2 and not last.summary["held-out"]["seen"]
    assert sorted(row["seen"] for row in table(tmp_path / "s.csv")) == ["False"] * 2 + ["True"] * 6


def test_masks_of_nobody_knows_whom(eyes: Path, run: Path) -> None:
    *events, last = Score(predictions=eyes / "masks", data=eyes).run()
    assert any("There is no model.json beside the masks" in text for text in sentences(events))
    assert isinstance(last, Finished) and last.summary["training"]["dice_mean"] == 1


def test_a_table_that_exists_is_kept_unless_asked(eyes: Path, masks: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("mine")
    with pytest.raises(InputError, match="exists already; choose another name or add --overwrite"):
        finish(Score(predictions=masks, data=eyes, out=tmp_path / "s.csv"))
    assert (tmp_path / "s.csv").read_text() == "mine"
    finish(Score(predictions=masks, data=eyes, out=tmp_path / "s.csv", overwrite=True))
    assert len(table(tmp_path / "s.csv")) == 8


def test_both_tables_have_the_same_columns(eyes: Path, run: Path, masks: Path, tmp_path: Path) -> None:
    finish(Score(predictions=masks, data=eyes, out=tmp_path / "s.csv"))
    assert table(tmp_path / "s.csv")[0].keys() == table(run / "scores.csv")[0].keys()


@pytest.mark.parametrize(("painted", "measured"), [((0, 1), True), ((0, 2), False), ((1,), True)])
def test_planes_with_gaps_are_no_body(
    painted: tuple[int, ...], measured: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored slices run against the axial planes or along them: the caption has the number of labelled.csv."""
    chests = write_chests(tmp_path / "chests")
    rows = [f"chest{number}.nii.gz,{z}" for number in range(6) for z in painted]
    (chests / "labelled.csv").write_text("\n".join(["image,z", *rows]) + "\n")
    captions: list[list[int]] = []
    draw = scoring.write_overlay

    def spy(*arrays: Any, numbers: list[int], **options: Any) -> None:
        captions.append(numbers)
        draw(*arrays, numbers=numbers, **options)

    monkeypatch.setattr(scoring, "write_overlay", spy)
    monkeypatch.setattr(scoring, "segment", lambda segmenter, case, control: (scoring.read_mask(case, 3), Found([])))
    last = finish(Finetune(data=chests, out=tmp_path / "run", **TINY))
    assert last.summary["dice_mean"] == 1
    assert (last.summary["hd95_mean"] is not None) == measured
    assert captions and all(sorted(numbers) == list(painted) for numbers in captions)


def test_a_run_keeps_the_masks_that_it_scored_and_takes_others_of_its_model(
    eyes: Path, source: Path, masks: Path, run: Path, tmp_path: Path
) -> None:
    finish(Finetune(data=eyes, out=tmp_path / "run", source=source, **TINY))
    summary, kept = read_summary(tmp_path / "run"), tmp_path / "run" / "masks"
    scored = [*summary["validation"]["cases"], *summary["cases"]]
    assert {path.name for path in kept.iterdir()} == {*(f"{case}.png" for case in scored), "model.json"}
    assert json.loads((kept / "model.json").read_text())["sha256"] == summary["sha256"]
    for case in scored:
        assert (kept / f"{case}.png").read_bytes() == (masks / f"{case}.png").read_bytes(), "as predict writes them"

    model = {"data": (eyes,), "model": tmp_path / "run", "out": kept, "device": "cpu"}
    with pytest.raises(InputError, match=f"{len(scored)} of the masks exist already"):
        finish(Predict(**model))
    others = tuple(sorted({f"eye{number}" for number in range(8)} - set(scored)))
    finish(Predict(**model, cases=others))
    assert len(list(kept.glob("*.png"))) == 8
    *_, last = Score(predictions=kept, data=eyes).run()
    assert isinstance(last, Finished)
    assert last.summary["held-out"]["dice_mean"] == summary["dice_mean"] is not None


def test_masks_of_an_earlier_run_go_with_it(eyes: Path, tmp_path: Path) -> None:
    finish(Finetune(data=eyes, out=tmp_path / "run", **TINY))
    mine = tmp_path / "run" / "masks" / "eye9.png"
    mine.write_text("of the earlier model")
    first = read_summary(tmp_path / "run")["sha256"]
    finish(Finetune(data=eyes, out=tmp_path / "run", overwrite=True, **{**TINY, "seed": 1}))
    card = json.loads((tmp_path / "run" / "masks" / "model.json").read_text())
    assert card["sha256"] == read_summary(tmp_path / "run")["sha256"] != first and not mine.exists()
