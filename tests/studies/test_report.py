"""Figures as files, and one page on a run."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_tlseg.cli import main
from napari_tlseg.studies.figures import Line, efficiency_curve, lambda_curve, positions, write_figure
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
    assert ("SHA-256 of the source" in page) == (name != "crossval")


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
