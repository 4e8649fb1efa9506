"""What the demo may replace, and what it says in the end."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
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
def test_the_last_line_shows_image_and_labels(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "my data")
    case = read_dataset(data).cases[0]
    rows = [{"run": "between"}]
    mask = tmp_path / "demo" / "runs" / "between" / "masks" / case.mask.name
    mask.parent.mkdir(parents=True)
    mask.write_bytes(case.mask.read_bytes())
    _, line = module._next(tmp_path / "demo", case, rows)
    _, code, *files = shlex.split(line.partition("python ")[2])
    shown: dict[str, np.ndarray] = {}
    viewer = SimpleNamespace(add_labels=lambda array: shown.update(labels=array))
    fake = SimpleNamespace(imshow=lambda array: (shown.update(image=array) or viewer, None), run=lambda: None)
    monkeypatch.setitem(sys.modules, "napari", fake)
    monkeypatch.setattr(sys, "argv", ["-c", *files])
    exec(code, {})
    assert shown["labels"].shape == shown["image"].shape and shown["labels"].dtype == np.uint8
