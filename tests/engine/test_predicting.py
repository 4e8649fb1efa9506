"""Where masks may go, and what lies beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_geometry, read_image
from napari_tlseg.data.run import read_summary
from napari_tlseg.engine import predicting
from napari_tlseg.engine.jobs import Predict
from napari_tlseg.errors import InputError
from napari_tlseg.events import Visited
from napari_tlseg.learn.predict import Segmenter
from tiny import SHAPE, write_chests, write_eyes

TINY = {"steps": 2, "size": 32, "batch": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"))
    journey.finetune(root, root / "run", **TINY)
    return root


@pytest.mark.parametrize("what", [".", "images/eye1.png", "images"])
@pytest.mark.parametrize("out", ["masks", "images/../masks"])
def test_predictions_never_become_true_masks(what: str, out: str, eyes: Path) -> None:
    before = (eyes / "masks" / "eye1.png").read_bytes()
    with pytest.raises(InputError, match="is where the true masks are"):
        journey.predict(eyes / what, eyes / "run", eyes / out, overwrite=True, device="cpu")
    assert (eyes / "masks" / "eye1.png").read_bytes() == before


def test_a_folder_beside_plain_images_is_fine(eyes: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.png").write_bytes((eyes / "images" / "eye1.png").read_bytes())
    assert journey.predict(tmp_path / "scans", eyes / "run", tmp_path / "masks", device="cpu").summary["masks"] == 1


def test_one_path_or_several(eyes: Path, tmp_path: Path) -> None:
    one, two = (str(eyes / "images" / f"eye{number}.png") for number in (1, 2))
    assert journey.predict(one, eyes / "run", tmp_path / "one", device="cpu").summary["masks"] == 1
    assert journey.predict([one, Path(two)], eyes / "run", tmp_path / "two", device="cpu").summary["masks"] == 2


def test_masks_of_two_models_are_not_mixed(eyes: Path, tmp_path: Path) -> None:
    other, masks = tmp_path / "other", tmp_path / "masks"
    journey.finetune(eyes, other, **TINY, seed=1)
    one, two = (eyes / "images" / f"eye{number}.png" for number in (1, 2))
    journey.predict(one, eyes / "run", masks, device="cpu")
    with pytest.raises(InputError, match="holds masks of another model"):
        journey.predict(two, other, masks, device="cpu")
    journey.predict(two, eyes / "run", masks, device="cpu")
    (masks / "model.json").write_text("damaged")
    with pytest.raises(InputError, match=r"model\.json: does not say which model made the masks"):
        journey.score(masks, eyes)
    journey.predict([one, two], other, masks, device="cpu", overwrite=True)
    assert json.loads((masks / "model.json").read_text())["sha256"] == read_summary(other)["sha256"]


@pytest.fixture
def all_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that sees the target everywhere."""
    sure = np.array([0.0, 1.0], np.float32).reshape(1, 2, 1, 1)
    monkeypatch.setattr(Segmenter, "forward", lambda self, squares: np.tile(sure, (len(squares), 1, 32, 32)))


def test_only_the_cases_that_are_named(eyes: Path, tmp_path: Path) -> None:
    last = journey.predict([eyes], eyes / "run", tmp_path / "m", cases=("eye5", "eye2"), device="cpu")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["eye2.png", "eye5.png", "model.json"]
    assert last.summary == {"masks": 2, "cases": 2}
    journey.predict([eyes], eyes / "run", tmp_path / "m", cases=("eye3",), device="cpu")
    with pytest.raises(InputError, match="1 of the masks exist already"):
        journey.predict([eyes], eyes / "run", tmp_path / "m", cases=("eye3", "eye4"), device="cpu")


def test_a_case_that_nobody_knows(eyes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"eyes.*: there is no case 'zebra'; its cases have names like 'eye0'"):
        journey.predict(eyes, eyes / "run", tmp_path / "m", cases=("eye1", "zebra"), device="cpu")
    assert not (tmp_path / "m").exists()


def test_two_cases_of_a_name_are_no_trouble_while_others_are_meant(eyes: Path, tmp_path: Path) -> None:
    twice = [eyes / "images", eyes / "images" / "eye1.png"]
    with pytest.raises(InputError, match="two images are both case 'eye1'"):
        journey.predict(twice, eyes / "run", tmp_path / "m", cases=("eye1",), device="cpu")
    journey.predict(twice, eyes / "run", tmp_path / "m", cases=("eye2",), device="cpu")


def test_a_chosen_case_keeps_its_region_of_interest(tmp_path: Path, all_foreground: None) -> None:
    data = write_eyes(tmp_path / "eyes")
    roi = np.zeros(SHAPE, np.uint8)
    roi[10:30, 20:50] = 255
    (data / "rois").mkdir()
    Image.fromarray(roi).save(data / "rois" / "eye2.png")
    journey.finetune(data, tmp_path / "run", held_out=0, labels=4, **TINY)
    journey.predict(data, tmp_path / "run", tmp_path / "m", cases=("eye2", "eye3"), device="cpu")
    assert (np.array(Image.open(tmp_path / "m" / "eye2.png")) == roi).all()
    assert (np.array(Image.open(tmp_path / "m" / "eye3.png")) == 255).all()


def test_photographs_as_nifti_score_the_same(eyes: Path, tmp_path: Path) -> None:
    arguments = ["predict", eyes, "--model", eyes / "run", "--device", "cpu", "--cases", "eye1", "eye2"]
    for format, out in (("auto", "png"), ("nifti", "nii.gz"), ("tiff", "tif")):
        assert main([str(word) for word in (*arguments, "--out", tmp_path / out, "--format", format)]) == 0
        assert {path.name for path in (tmp_path / out).glob("eye*")} == {f"eye1.{out}", f"eye2.{out}"}
    first, *others = [journey.score(tmp_path / out, eyes).summary for out in ("png", "nii.gz", "tif")]
    assert others == [first, first]


def test_a_volume_as_png_is_refused_before_any_work(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chests = write_chests(tmp_path / "chests", 2)
    monkeypatch.setattr(predicting, "load", lambda path: pytest.fail("a model was read"))
    with pytest.raises(InputError, match=r"chest0\.nii\.gz: is a volume, which PNG cannot hold; choose --format nifti"):
        journey.predict(chests, eyes / "run", tmp_path / "m", format="png", device="cpu")
    assert not (tmp_path / "m").exists()


def test_a_mask_that_does_not_read_back_is_removed_and_not_reported(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = predicting.write_mask

    def write_on_a_bad_disk(*arguments: Any) -> Path:
        path = write(*arguments)
        if path.name == "eye1.png":
            pixels = np.array(Image.open(path))
            pixels[0, 0] ^= 255
            Image.fromarray(pixels).save(path)
        return path

    monkeypatch.setattr(predicting, "write_mask", write_on_a_bad_disk)
    written: list[Path] = []
    with pytest.raises(InputError, match=r"eye1\.png: is not to be trusted: read back, it holds other labels"):
        for event in Predict(data=(eyes,), model=eyes / "run", out=tmp_path, device="cpu").run():
            written += [event.path] if isinstance(event, Visited) and event.path else []
    assert written == [tmp_path / "eye0.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["eye0.png", "model.json"]


def test_masks_of_volumes_lie_where_they_should_in_every_format(tmp_path: Path) -> None:
    chests = write_chests(tmp_path / "chests")
    journey.finetune(chests, tmp_path / "run", **TINY)
    case = read_dataset(chests)["chest1"]
    for format in ("nifti", "tiff"):
        journey.predict(chests, tmp_path / "run", tmp_path / "m", cases=("chest1",), format=format, device="cpu")
    nifti, tiff = (tmp_path / "m" / f"chest1.{ending}" for ending in ("nii.gz", "tif"))
    assert (read_geometry(nifti).affine == case.geometry.affine).all()
    assert read_geometry(nifti).spacing == case.geometry.spacing == pytest.approx(read_geometry(tiff).spacing)
    assert (read_image(nifti).array == read_image(tiff).array).all()


def test_an_image_is_never_replaced_by_its_mask(eyes: Path) -> None:
    before = (eyes / "images" / "eye1.png").read_bytes()
    with pytest.raises(InputError, match=r"eye0\.png: is an image, which its mask would replace"):
        journey.predict(eyes, eyes / "run", eyes / "images", device="cpu", overwrite=True)
    assert (eyes / "images" / "eye1.png").read_bytes() == before
