"""Dice against the number of masks: nested draws, λ chosen by the other folds, words that follow the numbers."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tlseg.cli import main
from napari_tlseg.data.run import read_summary
from napari_tlseg.studies.compare import Study
from napari_tlseg.studies.efficiency import labels_of, mark_chosen, summarize_rows, what_more_brings
from tiny import FAST, write_eyes


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 10)
    source = root / "clicks.safetensors"
    assert main(["pretrain", str(root), "--out", str(source), *FAST]) == 0
    flags = ["--sources", f"none,{source}", "--sizes", "1,2,50", "--folds", "2", "--lambdas", "inf,0", *FAST]
    assert main(["efficiency", str(root), "--out", str(root / "study"), *flags]) == 0
    return root / "study"


def test_each_source_and_number_is_scored_on_every_fold(study: Path) -> None:
    rows = list(csv.DictReader((study / "scores.csv").read_text().splitlines()))
    assert {(row["source"], row["masks"]) for row in rows} == {(s, m) for s in ("none", "clicks") for m in ("1", "2")}
    for source, masks, arms in (("none", "1", 1), ("clicks", "2", 2)):
        own = [row for row in rows if (row["source"], row["masks"]) == (source, masks)]
        assert len(own) == 8 * arms and len({row["case"] for row in own}) == 8
        assert len([row for row in own if row["chosen"] == "True"]) == 8
    summary = read_summary(study)
    assert summary["trials"] == summary["of"] == 8 and "10 more masks" in summary["words"]
    assert all(row["p"] is None for row in summary["efficiency"] if row["source"] == "none")


def test_a_larger_number_holds_the_smaller_one(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_tlseg.data.folder import read_dataset
    from napari_tlseg.studies.efficiency import _draw

    cases = read_dataset(study.parent).cases
    draws = [_draw(cases, ("eye0", "eye1"), size, 0) for size in (1, 2, 5)]
    assert [len(draw) for draw in draws] == [1, 2, 5] and "eye0" not in draws[-1]
    assert draws[2][:2] == draws[1] and draws[1][:1] == draws[0]


def rows_of(dice: dict[tuple[str, int, float | None], float], patients: int = 12, noise: float = 0.01) -> list[Any]:
    rng = np.random.default_rng(0)
    level = rng.normal(0, 0.05, patients)
    return mark_chosen(
        [
            {
                "source": source,
                "masks": masks,
                "fold": n % 3,
                "case": f"{n}",
                "patient": f"{n}",
                "lambda": arm,
                "dice": mean + level[n] + rng.normal(0, noise),
            }
            for (source, masks, arm), mean in dice.items()
            for n in range(patients)
        ]
    )


def test_a_fold_has_no_part_in_the_choice_of_its_own_strength() -> None:
    rows = rows_of({("s", 4, math.inf): 0.5, ("s", 4, 0.0): 0.6}, noise=1e-6)
    for row in rows:
        if row["fold"] == 0:
            row["dice"] = 1.0 if row["lambda"] == math.inf else 0.0  # by far the best, for fold 0 alone
    chosen = {row["fold"]: row["lambda"] for row in mark_chosen(rows) if row["chosen"]}
    assert chosen[0] == 0.0
    assert chosen[1] == chosen[2] == math.inf


def test_the_table_tests_against_no_source_by_patient() -> None:
    found = summarize_rows(rows_of({("none", 2, None): 0.6, ("s", 2, 0.0): 0.8, ("s", 2, math.inf): 0.5}))
    scratch, source = found
    assert source["dice_mean"] == pytest.approx(0.8, abs=0.05) and source["λ = ∞"] == pytest.approx(0.5, abs=0.05)
    assert source["p"] < 0.01 and scratch["p"] is None and scratch["λ = 0"] is None


def test_what_more_masks_bring_follows_the_last_doubling() -> None:
    words = what_more_brings(rows_of({("none", 4, None): 0.6, ("none", 8, None): 0.7}, noise=1e-3))
    gain = 0.1 * math.log2(18 / 8)
    assert "8 → 18" in words and f"{gain:+.3f}"[:5] in words and "if each doubling" in words
    assert "cannot tell from nothing" in what_more_brings(
        rows_of({("none", 4, None): 0.7, ("none", 8, None): 0.7}, noise=0.05)
    )
    assert "says nothing" in what_more_brings(rows_of({("none", 4, None): 0.7}))


def test_sources_have_names_of_their_own() -> None:
    found = labels_of(["none", "a/clicks.safetensors", "b/clicks.safetensors", "imagenet"])
    assert list(found) == ["none", "clicks", "clicks+", "imagenet"]


def test_what_is_taken_of_a_source_is_no_matter_to_a_training_without_one(study: Path, tmp_path: Path) -> None:
    data, source = str(study.parent), str(study.parent / "clicks.safetensors")
    flags = ["--transfer", "mean-var", "--sizes", "2", "--folds", "2", "--lambdas", "0", *FAST]
    out = tmp_path / "study"
    assert main(["efficiency", data, "--out", str(out), "--sources", f"none,{source}", *flags]) == 0
    stages = [json.loads((s / "trials" / "none-2-fold-0.json").read_text())["stages"] for s in (out, study)]
    assert stages[0] == stages[1] and read_summary(out)["trials"] == 4


def test_transfer_needs_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["efficiency", str(tmp_path), "--out", str(tmp_path / "x"), "--transfer", "lowest:2"]) == 2
    assert "there is none; add --source" in capsys.readouterr().err


def test_sizes_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sizes in ("0,2", "2,2", "two"):
        assert main(["efficiency", str(tmp_path), "--out", str(tmp_path / "x"), "--sizes", sizes]) == 2
        assert "--sizes" in capsys.readouterr().err


def test_studies_that_differ_in_seed_and_sources_are_one_curve(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, longer = tmp_path / "again", tmp_path / "longer"
    for folder, changed in ((again, {"seed": 1}), (longer, {"steps": 9})):
        shutil.copytree(study, folder)
        record = json.loads((study / "job.json").read_text())
        (folder / "job.json").write_text(json.dumps(record | changed))
    assert main(["report", str(study), str(again), "--out", str(tmp_path / "both")]) == 0
    page = (tmp_path / "both" / "report.html").read_text()
    assert "10 more masks" in page and "seed 0, 1" in page and "other folds" in page
    once = summarize_rows(Study.read(study).rows)
    assert once == read_summary(study)["efficiency"], "the table holds what the summary is of"
    assert summarize_rows([row for path in (study, again) for row in Study.read(path).rows]) == once
    assert main(["report", str(study), str(longer), "--out", str(tmp_path / "both")]) == 2
    assert "other options" in capsys.readouterr().err
