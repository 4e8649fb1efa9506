"""What the demo may replace, and what it says in the end."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.engine import demo as module
from napari_tlseg.engine.jobs import Demo
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished, Noted
from tiny import write_chests, write_eyes


def small(out: Path, data: Path | None = None) -> Demo:
    return Demo(out=out, data=data, pretrain_steps=1, steps=1, size=32, device="cpu")


def test_a_folder_of_ones_own_is_never_drawn_into(tmp_path: Path) -> None:
    data = write_eyes(tmp_path / "my project" / "data")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"was not drawn by a demo; add --data '.*my project/data' or choose"):
        list(small(data.parent).run())
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_what_a_demo_drew_is_drawn_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PHANTOMS", 6)
    out = tmp_path / "demo"
    (out / "data").mkdir(parents=True)
    (out / "data" / module.DRAWN).touch()
    first, *_, last = small(out).run()
    assert isinstance(first, Noted) and first.text.startswith("Drawing 6 phantom")
    assert isinstance(last, Finished) and len(last.summary["rows"]) == 4
    assert len(read_dataset(out / "data")) == 6


@pytest.mark.parametrize("write", [write_eyes, write_chests])
def test_the_last_line_names_an_image_and_its_mask(write, tmp_path: Path) -> None:
    case = read_dataset(write(tmp_path / "my data")).cases[0]
    _, line = module._next(tmp_path / "demo", case, [{"run": "between"}])
    python, *arguments = shlex.split(line.partition("napari:")[2])
    assert (python, arguments[:2]) == (sys.executable, ["-m", "napari_tlseg.gui.show"])
    assert Path(arguments[2]) == case.image
    assert Path(arguments[3]) == tmp_path / "demo" / "runs" / "between" / "masks" / case.mask.name
