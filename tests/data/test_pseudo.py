"""The table of pseudo-labels, and what a person says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_tlseg.data.pseudo import FOLDER, ROUNDS, TABLE, Pseudo, decide, latest, read_pseudo, write_pseudo
from napari_tlseg.errors import InputError


def test_an_answer_is_kept_beside_the_others_and_can_be_taken_back(tmp_path: Path) -> None:
    write_pseudo(tmp_path, {"ä.png": Pseudo(confidence=0.9), "b.png": Pseudo(confidence=0.25, accepted=False)})
    decide(tmp_path, "ä.png", True)
    assert (tmp_path / TABLE).read_text("utf-8") == "image,accepted,confidence\nä.png,1,0.9000\nb.png,0,0.2500\n"
    decide(tmp_path, "b.png", None)
    assert read_pseudo(tmp_path) == {
        "ä.png": Pseudo(confidence=0.9, accepted=True),
        "b.png": Pseudo(confidence=0.25),
    }


@pytest.mark.parametrize(
    ("row", "complaint"),
    [("a.png,yes,0.5", "line 2: accepted is 'yes'"), ("a.png,1,sure", "confidence is 'sure'")],
)
def test_what_a_person_mistyped_is_named_with_its_line(tmp_path: Path, row: str, complaint: str) -> None:
    (tmp_path / TABLE).write_text(f"image,accepted,confidence\n{row}\n")
    with pytest.raises(InputError, match=complaint):
        read_pseudo(tmp_path)


def test_an_image_has_one_line_and_one_that_is_not_there_no_answer(tmp_path: Path) -> None:
    write_pseudo(tmp_path, {"a.png": Pseudo(confidence=0.5)})
    with pytest.raises(InputError, match=r"no image 'b\.png'"):
        decide(tmp_path, "b.png", True)
    with (tmp_path / TABLE).open("a") as file:
        file.write("a.png,0,0.5\n")
    with pytest.raises(InputError, match=r"a\.png appears twice"):
        read_pseudo(tmp_path)


def test_the_latest_are_those_of_the_highest_round_that_has_a_table(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    for number in ("2", "10", "notes"):
        write_pseudo(tmp_path / ROUNDS / number / FOLDER, {})
    (tmp_path / ROUNDS / "11" / FOLDER).mkdir(parents=True)  # not whole yet
    assert latest(tmp_path) == tmp_path / ROUNDS / "10" / FOLDER
