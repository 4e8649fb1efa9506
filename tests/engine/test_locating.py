"""Centres as a localizer sees them, on the grid of each image, and what a stop or bad input leaves."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.data.guesses import read_guesses
from napari_tlseg.data.split import read_split
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Started, Visited
from napari_tlseg.nets.checkpoint import Provenance, save
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import Localizer
from tiny import FAST, write_eyes

SIZE = 32
DOWN = np.diag([1.0, 1.0, -2.0, 1.0])
"""An affine whose slices are stored from head to foot."""


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eyes(tmp_path_factory.mktemp("eyes"), 19)


def localizer(path: Path, says: tuple[float, float] | None = None) -> Path:
    """A localizer of grey images that always says the same, fractions of the side, or else something of each image."""
    torch.manual_seed(0)
    model = Localizer(make_encoder("unet", 1), SIZE)
    if says is None:
        for _ in range(30):  # batch-norm gets used to images
            model.train()(torch.rand(8, 1, SIZE, SIZE))
    else:
        torch.nn.init.zeros_(model.head[-1].weight)
        model.head[-1].bias.data = torch.tensor(says)
    facts = Provenance(
        task="localize", encoder="unet", in_channels=1, classes=("background", "target"), recipe="plain", size=SIZE
    )
    save(path, model, facts)
    return path


def write_volumes(folder: Path, *depths: int, clicked: dict[int, tuple[float, float, float]] | None = None) -> Path:
    """Volumes of (k, j, i) = (depth, 48, 64), stored from head to foot."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, depth in enumerate(depths):
        voxels = rng.integers(0, 255, (64, 48, depth), dtype=np.uint8)
        nib.save(nib.Nifti1Image(voxels, DOWN), folder / "images" / f"ct{number}.nii.gz")
    write_clicks(folder, {f"ct{number}.nii.gz": point for number, point in (clicked or {}).items()})
    return folder


def locate(data: Path, model: Path, out: Path, control: Control | None = None, **options: object) -> list[Event]:
    return list(Locate(data=data, model=model, out=out, device="cpu", **options).run(control))  # type: ignore[arg-type]


def centres(data: Path, path: Path) -> dict[str, tuple[float, ...]]:
    return {name: guess.point for name, guess in read_guesses(path, read_dataset(data)).items()}


def test_a_centre_is_in_pixels_of_its_image(eyes: Path, tmp_path: Path) -> None:
    """48 × 64 becomes 24 × 32, 4 from the top of the square: a quarter of its side down is 4 pixels below that."""
    model, out = localizer(tmp_path / "s.safetensors", (0.25, 0.75)), tmp_path / "deep" / "centres.csv"
    events = locate(eyes, model, out)
    assert events[0] == Started(stage="locate", total=19)
    assert [event.case for event in events if isinstance(event, Visited)] == [case.name for case in read_dataset(eyes)]
    assert events[-1] == Finished(reason="done", out=out, summary={"centres": 19, "cases": 19})
    assert set(centres(eyes, out).values()) == {(7.5, 47.5)}
    rows = list(csv.reader(out.read_text().splitlines()))
    assert rows[:2] == [["image", "y", "x"], ["eye0.png", "7.5", "47.5"]]


@pytest.mark.parametrize(("says", "expected"), [((-1.0, 2.0), (0.0, 63.0)), ((2.0, -1.0), (47.0, 0.0))])
def test_a_centre_lies_within_its_image(
    says: tuple[float, float], expected: tuple[float, float], eyes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "centres.csv"
    locate(eyes, localizer(tmp_path / "s.safetensors", says), out)
    assert set(centres(eyes, out).values()) == {expected}


def test_the_centres_are_as_far_off_as_the_training_says(tmp_path: Path) -> None:
    eyes = write_eyes(tmp_path / "eyes", 20)
    source = tmp_path / "s.safetensors"
    said = journey.pretrain(eyes, source, steps=5, size=32, batch=2, device="cpu", precision="float32").summary
    locate(eyes, source, tmp_path / "centres.csv")
    found, parts = centres(eyes, tmp_path / "centres.csv"), read_split(eyes)
    errors = [
        np.hypot(*np.subtract(found[case.name], case.click))
        for case in read_dataset(eyes)
        if parts[case.name] == "held-out" and case.click
    ]
    assert len(errors) > 2 and np.median(errors) == pytest.approx(said["held_out"]["error"], abs=0.02)


@pytest.mark.parametrize("head", ["heatmap", "unet"])
def test_a_heat_map_says_how_sure_it_is(head: str, tmp_path: Path) -> None:
    """In pixels of the image; a case with more doubt than 19 of 20 validation cases is counted."""
    eyes = write_eyes(tmp_path / "eyes", 20)
    source, out = tmp_path / "s.safetensors", tmp_path / "centres.csv"
    said = journey.pretrain(eyes, source, head=head, steps=30, size=32, batch=4, device="cpu").summary
    validation = said["validation"]
    assert validation["reach"] == pytest.approx(validation["error_p95"] / 64)
    *_, last = locate(eyes, source, out)
    guesses = read_guesses(out, read_dataset(eyes)).values()
    assert len(guesses) == 20 and all(0 < guess.doubt < 64 for guess in guesses if guess.doubt is not None)
    unsure = [guess for guess in guesses if guess.unsure]
    limit = 64 * validation["doubt_p95"] * validation["calibration"]
    assert unsure == [guess for guess in guesses if (guess.doubt or 0) > limit]
    assert isinstance(last, Finished) and last.summary == {"centres": 20, "cases": 20, "unsure": len(unsure)}
    errors = [np.hypot(*np.subtract(centres(eyes, out)[case.name], case.click)) for case in read_dataset(eyes)]
    assert np.median(errors) < 5, "30 steps are enough for a bright disc"


def test_the_slice_is_that_of_the_clicks(tmp_path: Path) -> None:
    """Clicked on the second highest of ten slices: in a volume of 30 that height is the fifth from above."""
    chests = write_volumes(tmp_path / "chests", 10, 30, 1, 3, clicked={0: (1, 20, 30)})
    events = locate(chests, localizer(tmp_path / "s.safetensors", (0.25, 0.75)), tmp_path / "centres.csv")
    notes = [event.text for event in events if isinstance(event, Noted)]
    assert notes == [
        "A localizer does not find the slice of a volume: its guess lies at the median height of those clicked."
    ]
    found = centres(chests, tmp_path / "centres.csv")
    assert [found[f"ct{number}"][0] for number in range(4)] == [1, 4, 0, 0]
    planes = read_dataset(chests)["ct1"].geometry.point_to_planes(found["ct1"])
    assert planes == (25, 7.5, 47.5) and found["ct1"][1:] == (39.5, 15.5), "it is stored the other way round"


def test_without_clicks_the_slice_is_in_the_middle(tmp_path: Path) -> None:
    chests = write_volumes(tmp_path / "chests", 9, 1)
    events = locate(chests, localizer(tmp_path / "s.safetensors", (0.5, 0.5)), tmp_path / "centres.csv")
    (note,) = (event.text for event in events if isinstance(event, Noted))
    assert note.endswith("its guess lies in the middle, as none is clicked.")
    assert [point[0] for point in centres(chests, tmp_path / "centres.csv").values()] == [4, 0]


def test_the_slice_of_the_guess_is_the_one_that_is_looked_at(tmp_path: Path) -> None:
    chests = write_volumes(tmp_path / "chests", 9, clicked={0: (2, 20, 30)})
    image = chests / "images" / "ct0.nii.gz"
    voxels = np.asarray(nib.load(image).dataobj)
    model = localizer(tmp_path / "s.safetensors")
    found = {}
    for name, slices in (("as it is", []), ("others inverted", [0, 1, 3, 8]), ("this inverted", [2])):
        changed = voxels.copy()
        changed[..., slices] = 255 - changed[..., slices]
        nib.save(nib.Nifti1Image(changed, DOWN), image)
        locate(chests, model, tmp_path / f"{name}.csv")
        (found[name],) = centres(chests, tmp_path / f"{name}.csv").values()
    assert found["as it is"] == found["others inverted"] != found["this inverted"]


def test_a_stop_keeps_the_centres_found_so_far(eyes: Path, tmp_path: Path) -> None:
    control, out = Control(), tmp_path / "centres.csv"
    events = []
    job = Locate(data=eyes, model=localizer(tmp_path / "s.safetensors", (0.5, 0.5)), out=out, device="cpu")
    for event in job.run(control):
        events.append(event)
        control.stop = control.stop or isinstance(event, Visited)
    assert events[-1] == Finished(reason="stopped", out=out, summary={"centres": 8, "cases": 19})
    assert list(centres(eyes, out)) == [event.case for event in events if isinstance(event, Visited)]


def test_a_stop_before_the_first_centre_writes_nothing(eyes: Path, tmp_path: Path) -> None:
    model = localizer(tmp_path / "s.safetensors")
    assert locate(eyes, model, tmp_path / "new" / "c.csv", Control(stop=True))[-1] == Finished(
        reason="stopped", out=None
    )
    assert not (tmp_path / "new").exists()


def test_a_table_is_only_replaced_when_told(eyes: Path, tmp_path: Path) -> None:
    model, out = localizer(tmp_path / "s.safetensors"), tmp_path / "centres.csv"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        locate(eyes, model, out)
    assert out.read_text() == "mine"
    locate(eyes, model, out, overwrite=True)
    assert len(centres(eyes, out)) == 19


# what cannot be


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that a command ends with, and exit code 2."""
    capsys.readouterr()
    assert main(["locate", *map(str, arguments), "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert "are in" not in out and err.count("\n") == 1
    return err


def test_guesses_never_become_clicks(eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, before = localizer(tmp_path / "s.safetensors"), (eyes / "clicks.csv").read_bytes()
    place = eyes / "images" / ".." / "clicks.csv"
    assert "is where the clicks are" in said(capsys, eyes, "--model", model, "--out", place, "--overwrite")
    assert (eyes / "clicks.csv").read_bytes() == before


@pytest.mark.parametrize("name", ["run", "run/model.safetensors", "masks.safetensors"])
def test_a_model_that_finds_masks_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eyes = write_eyes(tmp_path / "eyes")
    if name.startswith("run"):
        assert main(["finetune", str(eyes), "--out", str(tmp_path / "run"), *FAST]) == 0
    else:
        journey.pretrain(eyes, tmp_path / name, task="segment", steps=1, size=32, batch=2, device="cpu")
    err = said(capsys, eyes, "--model", tmp_path / name, "--out", tmp_path / "centres.csv")
    assert "holds a U-Net, which finds masks and no centres; give a source that was pretrained on clicks" in err
    assert not (tmp_path / "centres.csv").exists()


def test_bad_input_is_named_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eyes = write_eyes(tmp_path / "eyes")
    model, out = localizer(tmp_path / "s.safetensors"), tmp_path / "new" / "centres.csv"
    flags = ("--model", model, "--out", out)
    assert "nowhere: there is no such folder" in said(capsys, tmp_path / "nowhere", *flags)
    missing = said(capsys, eyes, "--model", tmp_path / "none", "--out", out)
    assert "none: there is no such model file" in missing
    image = eyes / "images" / "eye6.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    assert "images/eye6.png: cannot be read" in said(capsys, eyes, *flags)
    image.write_bytes(whole)
    colours = write_eyes(tmp_path / "colours", channels=3)
    assert "images/eye0.png: has 3 channels, the model takes 1" in said(capsys, colours, *flags)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert "locked: cannot be written to" in said(capsys, eyes, "--model", model, "--out", locked / "c.csv")
    assert not out.parent.exists()
