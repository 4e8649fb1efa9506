"""Where masks may go, and what lies beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_tlseg import journey
from napari_tlseg.data.run import read_summary
from napari_tlseg.errors import InputError
from tiny import write_eyes

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
