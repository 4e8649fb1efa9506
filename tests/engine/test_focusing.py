"""A run that looks at crops: what it keeps, that it predicts alone, and what it says of doubtful cases."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.crops import read_crop
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.run import read_summary
from napari_tlseg.data.tables import write_clicks
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.engine.trainings import Estimate, Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished, Noted
from napari_tlseg.nets.checkpoint import load
from tiny import FAST, write_chests, write_eyes

TINY: dict[str, Any] = {"size": 32, "batch": 4, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs with masks, and a localizer that knows them; nobody clicked in the folder that is segmented."""
    root = tmp_path_factory.mktemp("focus")
    clicked, eyes = write_eyes(root / "clicked", 16), write_eyes(root / "eyes", 10)
    journey.pretrain(clicked, root / "clicks.safetensors", head="heatmap", steps=40, **TINY)
    (eyes / "clicks.csv").unlink()
    for number in range(10):  # so that none was seen
        image = eyes / "images" / f"eye{number}.png"
        Image.fromarray(255 - (255 - np.asarray(Image.open(image))) // 2 * 2).save(image)
    return eyes


@pytest.fixture(scope="module")
def run(eyes: Path) -> Path:
    out = eyes.parent / "run"
    journey.finetune(eyes, out, focus=eyes.parent / "clicks.safetensors", crop=2.0, steps=60, **TINY)
    return out


def masks(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_a_run_on_crops_learns_and_says_how(eyes: Path, run: Path) -> None:
    summary, rows = read_summary(run), list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    assert summary["dice_mean"] > 0.8, "a bright disc, 60 steps"
    assert {row["focus"] for row in rows} == {"localizer"}
    assert all("doubt" in row for row in rows)
    source, model = load(eyes.parent / "clicks.safetensors"), load(run / "model.safetensors")
    assert load(run / "localizer.safetensors").sha256 == source.sha256 == summary["localizer_sha256"]
    assert model.provenance.focus is not None
    assert model.provenance.focus["side"] == pytest.approx(2.0 * 17 / 64, rel=0.05)
    assert set(source.provenance.seen) <= set(model.provenance.seen)


def test_the_run_alone_predicts_what_it_was_scored_with(eyes: Path, run: Path, tmp_path: Path) -> None:
    """From another place, where there is no other localizer."""
    alone = tmp_path / "alone"
    shutil.copytree(run, alone)
    shutil.rmtree(alone / "masks")
    journey.predict(eyes, alone, tmp_path / "found", device="cpu", precision="float32")
    found, scored = masks(tmp_path / "found"), masks(run / "masks")
    assert len(found) == 10 and 0 < len(scored) < 10
    assert all((found[name] == mask).all() for name, mask in scored.items())
    for case in read_dataset(eyes):
        crop = read_crop(tmp_path / "found", case)
        assert crop is not None
        (top, left, height, width), mask = crop.box, found[f"{case.name}.png"].copy()
        mask[max(top, 0) : top + height, max(left, 0) : left + width] = 0
        assert not mask.any(), "all that was found lies where was looked"
        assert height == width and read_crop(run / "masks", case) in (crop, None)
    assert all(mask.shape == (48, 64) for mask in found.values())


def test_without_its_localizer_a_run_cannot_predict(eyes: Path, run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", model)
    with pytest.raises(InputError, match="looks where a localizer says, and there is none beside it; name the run"):
        journey.predict(eyes, model, tmp_path / "found", device="cpu")
    assert not (tmp_path / "found").exists()


def test_a_doubtful_case_is_marked_and_said(eyes: Path, run: Path, tmp_path: Path) -> None:
    """A grey image without any disc."""
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    rng = np.random.default_rng(5)
    Image.fromarray(rng.normal(70, 3, (48, 64)).astype(np.uint8)).save(tmp_path / "data" / "images" / "none.png")
    image = tmp_path / "data" / "images" / "none.png"
    events = Predict(data=(image,), model=run, out=tmp_path / "found", device="cpu").run()
    (note,) = [event.text for event in events if isinstance(event, Noted)]
    assert note.startswith("none is doubtful: ")


def test_a_click_goes_before_the_localizer_and_that_is_said(eyes: Path, run: Path, tmp_path: Path) -> None:
    data = tmp_path / "eyes"
    shutil.copytree(eyes, data)
    held_out = read_summary(run)["cases"]
    clicked = write_eyes(tmp_path / "same", 10)
    clicks = {case.key: case.click for case in read_dataset(clicked) if case.name == held_out[0] and case.click}
    write_clicks(data, clicks)
    journey.finetune(data, tmp_path / "run", focus=eyes.parent / "clicks.safetensors", steps=2, **TINY)
    rows = list(csv.DictReader((tmp_path / "run" / "scores.csv").read_text().splitlines()))
    assert {row["case"] for row in rows if row["focus"] == "click"} == {held_out[0]}


def test_a_box_of_a_volume_lies_exactly_where_it_was_cut(tmp_path: Path) -> None:
    """Slanted NIfTI, several classes: the mask has the image's affine to the last bit, and its voxels."""
    chests = write_chests(tmp_path / "chests")
    write_clicks(chests, {"chest0.nii.gz": (1.0, 24.0, 32.0)})
    options = {**TINY, "batch": 2}
    source = tmp_path / "clicks.safetensors"
    write_clicks(chests, {f"chest{number}.nii.gz": (1.0, 24.0, 32.0) for number in range(6)})
    journey.pretrain(chests, source, head="heatmap", steps=2, held_out=0.0, **options)
    journey.finetune(chests, tmp_path / "run", focus=source, crop=1.2, steps=2, **options)
    journey.predict(chests, tmp_path / "run", tmp_path / "found", device="cpu")
    for path in sorted((chests / "images").iterdir()):
        image, mask = nib.load(path), nib.load(tmp_path / "found" / path.name)
        assert (image.affine == mask.affine).all() and image.shape == mask.shape


def test_how_long_it_takes_is_estimated_for_crops(eyes: Path) -> None:
    job = Finetune(data=eyes, out=eyes.parent / "other", focus=eyes.parent / "clicks.safetensors", device="cpu")
    *_, last = Estimate(of=job, device="cpu").run()
    assert isinstance(last, Finished)
    assert last.summary["size"] == 64, "crops of 34 px, in whole multiples of 32"


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert main(["finetune", *map(str, arguments), *FAST]) == 2
    return capsys.readouterr().err


def test_bad_input_is_named(eyes: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "run")
    clicks = eyes.parent / "clicks.safetensors"
    assert "finds masks and no centres" in said(capsys, eyes, *out, "--focus", run / "model.safetensors")
    assert "there is no such model file" in said(capsys, eyes, *out, "--focus", tmp_path / "none.safetensors")
    assert "--crop 1.0 is not possible" in said(capsys, eyes, *out, "--focus", clicks, "--crop", "1.0")
    colours = write_eyes(tmp_path / "colours", channels=3)
    assert "has 3 channels, the model takes 1" in said(capsys, colours, *out, "--focus", clicks)
    assert not (tmp_path / "run").exists()
