"""Guesses that are written and read back, with their doubt; they are no clicks."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_tlseg.data.case import Case
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.guesses import Guess, read_guesses, write_guesses
from napari_tlseg.data.tables import read_clicks
from napari_tlseg.errors import InputError


def case(name: str, *shape: int) -> Case:
    return Case(
        name=name, image=Path(f"images/{name}.png"), geometry=Geometry(shape=shape, spacing=(1.0,) * len(shape))
    )


CASES = [case("eye", 5, 6), case("ct", 4, 5, 6), case("other", 5, 6)]


def test_guesses_come_back_with_their_doubt(tmp_path: Path) -> None:
    guesses = {
        "eye": Guess(point=(1.25, 5.5), doubt=12.5, unsure=True),
        "ct": Guess(point=(3.0, 0.5, 2.0), doubt=0.25),
        "other": Guess(point=(1.0, 1.0)),
    }
    path = tmp_path / "deep" / "centres.csv"
    write_guesses(path, {each.key: guesses[each.name] for each in CASES})
    assert path.read_text().splitlines()[:2] == ["image,z,y,x,doubt,unsure", "eye.png,,1.25,5.5,12.5,yes"]
    assert read_guesses(path, CASES) == guesses
    assert read_guesses(tmp_path / "none.csv", CASES) == {}


def test_where_nothing_is_known_of_doubt_there_is_no_column(tmp_path: Path) -> None:
    write_guesses(tmp_path / "centres.csv", {"eye.png": Guess(point=(1.003, 2.0))})
    assert (tmp_path / "centres.csv").read_text() == "image,y,x\neye.png,1.0,2.0\n"


def test_tables_of_others_are_read_too(tmp_path: Path) -> None:
    """Without a word of who is unsure, and with images in which no target is seen."""
    (tmp_path / "centres.csv").write_text("image,y,x,doubt\neye.png,1,2,3\nother.png,,,\n")
    assert read_guesses(tmp_path / "centres.csv", CASES) == {"eye": Guess(point=(1.0, 2.0), doubt=3.0)}


def test_guesses_are_no_clicks(tmp_path: Path) -> None:
    write_guesses(tmp_path / "clicks.csv", {"eye.png": Guess(point=(1.0, 2.0), doubt=3.0)})
    with pytest.raises(InputError, match=r"clicks.csv: line 1: reads 'image,y,x,doubt,unsure'; expected image,y,x or"):
        read_clicks(tmp_path, CASES)


def test_a_guess_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "centres.csv").write_text("image,y,x,doubt,unsure\neye.png,1,2,much,\n")
    with pytest.raises(InputError, match=r"centres.csv: line 2: doubt is 'much'"):
        read_guesses(tmp_path / "centres.csv", CASES)
