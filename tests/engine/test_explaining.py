"""A picture and a table of what a model's answers come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.crops import read_crop
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.engine.jobs import Explain
from napari_tlseg.events import Attributed, Control, Finished, Started
from tiny import write_chests, write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "batch": 2, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("explain")
    eyes, chests = write_eyes(root / "eyes"), write_chests(root / "chests")
    journey.finetune(eyes, root / "run", **TINY)
    journey.finetune(chests, root / "volumes", **TINY)
    journey.pretrain(eyes, root / "clicks.safetensors", **TINY)
    journey.finetune(eyes, root / "focused", focus=root / "clicks.safetensors", **TINY)
    journey.pretrain(eyes, root / "labels.safetensors", task="classify", **TINY)
    journey.pretrain([eyes, chests], root / "hydra.safetensors", task="segment", **TINY)
    return root


def explain(image: Path, model: Path, out: Path, *flags: str) -> int:
    return main(["explain", str(image), "--model", str(model), "--out", str(out), "--steps", "8", *flags])


@pytest.mark.parametrize(
    ("model", "image", "answers"),
    [
        ("run", "eyes/images/eye0.png", ["target"]),
        ("volumes", "chests/images/chest0.nii.gz", ["lung", "infection"]),
        ("clicks.safetensors", "eyes/images/eye0.png", ["y", "x"]),
        ("focused", "eyes/images/eye0.png", ["target"]),
        ("labels.safetensors", "eyes/images/eye0.png", ["target"]),
    ],
)
def test_every_kind_of_model_can_be_looked_into(
    model: str, image: str, answers: list[str], place: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "why.png"
    assert explain(place / image, place / model, out, "--device", "cpu", "--json") == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert list(dict.fromkeys(row["answer"] for row in summary["explained"])) == answers
    assert [each["answer"] for each in summary["completeness"]] == answers
    with Image.open(out) as picture:
        assert picture.size == (32 * (1 + len(answers)), 32)
        panels = np.asarray(picture)
    assert (panels[:, :32, 0] == panels[:, :32, 2]).all() and (panels[:, 32:, 0] != panels[:, 32:, 2]).any()
    assert explain(place / image, place / model, tmp_path / "b.png", "--device", "cpu") == 0
    said = capsys.readouterr().out
    assert "the strongest 10% black" in said and f"The picture is in {tmp_path / 'b.png'}" in said


def test_a_page_of_a_dataset_and_no_picture(place: Path, tmp_path: Path, capsys: Any) -> None:
    eyes = write_eyes(tmp_path / "eyes", 2)
    pages = [Image.open(eyes / "images" / f"eye{n}.png") for n in range(2)]
    pages[0].save(eyes / "images" / "stack.tif", save_all=True, append_images=pages[1:])
    (eyes / "dataset.toml").write_text('pages = "cases"\n')
    flags = ["--model", str(place / "run"), "--steps", "8", "--device", "cpu"]
    assert main(["explain", str(eyes), "--case", "stack#1", *flags, "--json"]) == 0
    paged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["explain", str(eyes / "images" / "eye1.png"), *flags, "--json"]) == 0
    alone = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert paged[-1] == alone[-1] and paged[-1]["out"] is None
    (told,) = [event for event in paged if event["event"] == "Attributed"]
    assert told["case"] == "stack#1" and told["changes"] == paged[-1]["summary"]["explained"]
    assert main(["explain", str(eyes), "--case", "no", *flags]) == 2
    assert "there is no case 'no'" in capsys.readouterr().err


def test_values_lie_on_the_native_grid(place: Path) -> None:
    """Of a letterboxed image, (48, 64) shown to the network at 32 pixels: 24 × 32 of them."""
    job = Explain(data=place / "eyes/images/eye0.png", model=place / "run", steps=8, device="cpu")
    (told,) = [event for event in job.run() if isinstance(event, Attributed)]
    assert told.values.shape == (48, 64) and told.values.dtype == np.float32 and told.plane == 0


def test_of_a_run_on_crops_it_is_of_the_crop_that_it_looks_at(place: Path, tmp_path: Path) -> None:
    """About the click."""
    job = Explain(data=place / "eyes", case="eye3", model=place / "focused", steps=8, device="cpu")
    (told,) = [event for event in job.run() if isinstance(event, Attributed)]
    journey.predict(place / "eyes", place / "focused", tmp_path / "masks", cases=("eye3",), device="cpu")
    crop = read_crop(tmp_path / "masks", read_dataset(place / "eyes")["eye3"])
    assert crop is not None
    outside, (top, left, height, width) = told.values.copy(), crop.box
    outside[max(0, top) : top + height, max(0, left) : left + width] = 0
    assert told.values.shape == (48, 64) and np.abs(told.values).max() > 0 == np.abs(outside).max()


def test_a_stop_in_the_middle_of_an_answer_is_heeded(place: Path) -> None:
    control, job = Control(), Explain(data=place / "eyes/images/eye0.png", model=place / "run", device="cpu")
    events = []
    for event in job.run(control):
        events.append(event)
        control.stop = control.stop or isinstance(event, Started)
    assert events[-1] == Finished(reason="stopped", out=None)
    assert not any(isinstance(event, Attributed) for event in events)


def test_what_cannot_be_explained_is_refused(place: Path, tmp_path: Path, capsys: Any) -> None:
    eye, chest = place / "eyes/images/eye0.png", place / "chests/images/chest0.nii.gz"
    for image, model, out, flags, said in (
        (eye, place / "hydra.safetensors", tmp_path / "a.png", (), "holds several decoders"),
        (eye, place / "run", tmp_path / "a.jpg", (), "is not the name of a picture; let it end in .png"),
        (eye, place / "run", tmp_path / "a.png", ("--plane", "1"), "has no plane 1; give --plane from 0 to 0"),
        (chest, place / "volumes", tmp_path / "a.png", ("--plane", "3"), "has no plane 3; give --plane from 0 to 2"),
        (tmp_path / "no.png", place / "run", tmp_path / "a.png", (), "no.png"),
    ):
        assert explain(image, model, out, "--device", "cpu", *flags) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
