"""Figures as files, and one page on a run."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_tlseg.cli import main
from napari_tlseg.nets.checkpoint import load
from napari_tlseg.studies.compare import Study, grouped
from napari_tlseg.studies.crossval import arms_of
from napari_tlseg.studies.figures import (
    Line,
    efficiency_curve,
    lambda_curve,
    line_of,
    positions,
    source_curves,
    write_figure,
)
from tiny import FAST, write_eyes

LINES = [
    Line(label="Dice", points={math.inf: (0.6, 0.1), 1.0: (0.7, 0.1), 0.01: (0.8, None), 0.0: (0.75, 0.05)}),
    Line(label="precision", points={math.inf: (0.7, None), 0.0: (0.8, None)}, dashed=True),
]


@given(strengths=st.lists(st.floats(1e-6, 1e2), max_size=9, unique=True))
def test_places_on_the_axis_keep_the_order_and_set_the_ends_off(strengths: list[float]) -> None:
    every = sorted([0.0, math.inf, *strengths])
    places = [positions(every)[λ] for λ in every]
    assert places == sorted(places) and places[0] < places[-1]
    assert all(math.isfinite(place) for place in places)


def test_a_figure_shows_every_point_and_is_the_same_bytes_again(tmp_path: Path) -> None:
    figure = lambda_curve(LINES, {"no source": 0.55})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.01", "1", "∞"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Dice", "precision", "no source"]
    first = [path.read_bytes() for path in write_figure(figure, tmp_path, "lambda")]
    again = [path.read_bytes() for path in write_figure(lambda_curve(LINES, {"no source": 0.55}), tmp_path, "lambda")]
    assert first == again
    with Image.open(tmp_path / "lambda.png") as image:
        assert np.asarray(image).std() > 1
    assert (tmp_path / "lambda.svg").read_text().count("<path") > 10


def test_a_difference_to_plain_fine_tuning_that_is_no_chance_has_a_star() -> None:
    rows = [{"lambda": λ, "dice": 0.5, "p_against_0": p} for λ, p in ((0.0, None), (0.1, 0.01), ("inf", 0.2))]
    line = line_of("clicks", rows, "dice", starred=True)
    assert list(line.starred) == [0.1] and list(line.points) == [0.0, 0.1, math.inf]
    left, right = source_curves([line, line_of("other", rows, "dice")], [line], {"no source": 0.4}).axes
    assert [text.get_text() for text in left.texts] == ["*"]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["clicks", "other", "no source"]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["clicks"]


def test_a_difference_that_is_no_chance_has_a_star() -> None:
    row = {"source": "s", "masks": 2, "dice_mean": 0.8, "dice_se": 0.01, "p": 0.2}
    starred = efficiency_curve([row, row | {"masks": 4, "p": 0.01}]).axes[0].texts
    assert [text.get_text() for text in starred] == ["*"]


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 10)
    source = str(root / "clicks.safetensors")
    assert main(["pretrain", str(root), "--out", source, *FAST]) == 0
    shared = [str(root), "--source", source, *FAST]
    assert main(["path", *shared, "--lambdas", "inf,1,0", "--out", str(root / "path")]) == 0
    assert main(["finetune", *shared, "--out", str(root / "run")]) == 0
    assert main(["crossval", *shared, "--lambdas", "inf,0", "--folds", "2", "--out", str(root / "crossval")]) == 0
    return root


@pytest.mark.parametrize(
    ("name", "figures", "said"),
    [
        ("run", set(), "held to them by the penalty"),
        ("path", {"lambda", "cases"}, "held-out ones were scored"),
        ("crossval", {"lambda"}, "2-fold cross-validation by patient"),
    ],
)
def test_a_page_on_a_run_is_whole_in_itself(
    name: str, figures: set[str], said: str, eyes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(eyes / name)]) == 0
    assert str(eyes / name / "report.html") in capsys.readouterr().out
    folder, page = eyes / name / "figures", (eyes / name / "report.html").read_text()
    assert {path.stem for path in folder.glob("*.png")} == {path.stem for path in folder.glob("*.svg")} == figures
    assert set(re.findall(r'<img alt="(\w+)" src="data:image/png;base64,', page)) == figures
    assert said in page and "not for diagnosis" in page and "http" not in page
    assert load(eyes / "clicks.safetensors").sha256 in page


def height(picture: Path) -> int:
    with Image.open(picture) as image:
        return image.height


def test_a_case_can_be_asked_for(eyes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(eyes / "path"), "--cases", "eye3"]) == 0
    one = height(eyes / "path" / "figures" / "cases.png")
    assert main(["report", str(eyes / "path"), "--cases", "eye3", "eye4"]) == 0
    assert height(eyes / "path" / "figures" / "cases.png") == 2 * one
    assert main(["report", str(eyes / "path"), "--cases", "eye99"]) == 2
    assert "case 'eye99' has no mask" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run and no study" in capsys.readouterr().err


def copy_study(study: Path, out: Path, **changed: object) -> Path:
    """The same results as if they were of other options."""
    shutil.copytree(study, out)
    record = json.loads((out / "job.json").read_text())
    (out / "job.json").write_text(json.dumps(record | changed))
    return out


def test_studies_of_several_sources_are_one_figure_and_one_page(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = eyes / "crossval"
    again = copy_study(first, tmp_path / "again", seed=1)
    other = copy_study(first, tmp_path / "other", source="lungs.safetensors")
    assert main(["report", str(first), str(again), str(other)]) == 2
    assert "name one with --out" in capsys.readouterr().err
    assert main(["report", str(first), str(again), str(other), "--out", str(tmp_path / "both")]) == 0
    svg, page = ((tmp_path / "both" / name).read_text() for name in ("figures/lambda.svg", "report.html"))
    assert svg.count("<!-- clicks -->") == svg.count("<!-- lungs -->") == 2  # a legend in each panel
    assert "clicks: T" in page and "lungs: T" in page and "seed 0, 1" in page
    assert set(grouped([Study.read(path) for path in (first, again, other)])) == {"clicks", "lungs"}


def test_seeds_of_a_study_are_put_together(eyes: Path, tmp_path: Path) -> None:
    """A patient's score is the mean over the seeds, and the patients are not more."""
    table = (eyes / "crossval" / "scores.csv").read_text().splitlines()
    again = copy_study(eyes / "crossval", tmp_path / "again", seed=1)
    dice = table[0].split(",").index("dice")
    cells = [line.split(",") for line in table[1:]]
    half = [",".join([*each[:dice], str(float(each[dice]) / 2), *each[dice + 1 :]]) for each in cells]
    (again / "scores.csv").write_text("\n".join([table[0], *half]) + "\n")
    rows = [row for path in (eyes / "crossval", again) for row in Study.read(path).rows]
    once = arms_of(Study.read(eyes / "crossval").rows)
    for arm, both in zip(once, arms_of(rows), strict=True):
        assert both["dice_mean"] == pytest.approx(0.75 * arm["dice_mean"])
        assert both["patients"] == arm["patients"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [({"data": "elsewhere"}, "not of the same kind and data"), ({"job": "finetune"}, "no study of λ")],
)
def test_what_cannot_be_put_together_is_named(
    changed: dict[str, object], complaint: str, eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_study(eyes / "crossval", tmp_path / "other", **changed)
    assert main(["report", str(eyes / "crossval"), str(other), "--out", str(tmp_path / "both")]) == 2
    said = capsys.readouterr().err
    assert complaint in said and str(other) in said and said.count("\n") == 1


def test_a_study_that_is_not_at_its_end_is_named(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_study(eyes / "crossval", tmp_path / "other")
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | {"trials": 3}))
    assert main(["report", str(eyes / "crossval"), str(other), "--out", str(tmp_path / "both")]) == 2
    assert "3 of 4 trainings" in capsys.readouterr().err


def test_a_damaged_table_is_named(eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = copy_study(eyes / "crossval", tmp_path / "other")
    text = (other / "scores.csv").read_text().splitlines()
    (other / "scores.csv").write_text("\n".join([text[0], text[1].replace("0.", "O.")]) + "\n")
    assert main(["report", str(eyes / "crossval"), str(other), "--out", str(tmp_path / "both")]) == 2
    assert "line 2: is damaged" in capsys.readouterr().err
