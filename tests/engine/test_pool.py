"""Several datasets, one encoder: what they share, and how far a user gets with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.recipes import PLAIN, Recipe
from napari_tlseg.data.split import read_split
from napari_tlseg.engine.pool import gather_pool
from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import read_provenance
from napari_tlseg.nets.encoders import make_encoder
from tiny import FAST, write_chests, write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "batch": 2, "device": "cpu", "precision": "float32"}


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return write_eyes(tmp_path / "eyes", channels=3)


@pytest.fixture
def chests(tmp_path: Path) -> Path:
    return write_chests(tmp_path / "chests")


def job(*data: Path, **options: Any) -> Pretrain:
    return Pretrain(data=data, out=data[0].parent / "source.safetensors", task="segment", device="cpu", **options)


def test_from_several_datasets_to_a_segmentation(eyes: Path, chests: Path, tmp_path: Path, capsys: Any) -> None:
    """The encoder is what a target takes; its decoder begins anew, and what the source saw is known."""
    source, flags = tmp_path / "med.safetensors", list(FAST)
    assert main(["pretrain", str(eyes), str(chests), "--task", "segment", "--out", str(source), *flags]) == 0
    said = capsys.readouterr().out
    assert f"All share recipe plain ({PLAIN.says}) and images of 32 pixels." in said
    assert "Grey images are repeated over 3 channels, as the others have." in said
    assert "Trained 2 steps on masks of several datasets. The source is in" in said
    assert "(eyes 0." in said and ", chests 0." in said
    facts = read_provenance(source)
    assert (facts.task, facts.trained_on, facts.in_channels, facts.recipe) == ("hydra", "eyes, chests", 3, "plain")
    assert facts.tasks == {"eyes": ("background", "target"), "chests": ("background", "lung", "infection")}
    assert facts.classes == ("background", "target", "lung", "infection")
    for folder in (eyes, chests):
        parts = read_split(folder)
        for case in read_dataset(folder):
            assert (fingerprint(case) in facts.seen) == (parts[case.name] != "held-out")
    run = tmp_path / "run"
    assert main(["finetune", str(chests), "--source", str(source), "--lambda", "inf", "--out", str(run), *flags]) == 0
    kept, given = load_file(run / "model.safetensors"), load_file(source)
    shared = [name for name in given if name.startswith("encoder.")]
    assert shared and all(torch.equal(kept[name], given[name]) for name in shared)
    assert any(name.startswith("decoder.") for name in kept) and not any("decoders" in name for name in kept)
    assert json.loads((run / "summary.json").read_text())["source"] == "med.safetensors"
    assert main(["predict", str(eyes), "--model", str(source), "--out", str(tmp_path / "masks")]) == 2
    assert "holds an encoder shared by several datasets" in capsys.readouterr().err


def test_from_foreign_weights(eyes: Path, chests: Path, tmp_path: Path) -> None:
    """Med+Nat: with no training to speak of, the encoder is still that of the file."""
    weights = make_encoder("resnet18", 3).body.state_dict()
    torch.save(weights, tmp_path / "nat.pth")
    options = TINY | {"steps": 1, "learning_rate": 1e-12}
    out = tmp_path / "source.safetensors"
    journey.pretrain([eyes, chests], out, task="segment", encoder="resnet18", init=tmp_path / "nat.pth", **options)
    assert read_provenance(out).init == "nat.pth"
    torch.testing.assert_close(load_file(out)["encoder.body.layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])


def test_datasets_of_one_kind_keep_their_recipe(chests: Path, tmp_path: Path) -> None:
    pool = gather_pool(job(chests, write_chests(tmp_path / "more")), "mask")
    assert pool.recipe.name == "ct-lung" and pool.channels == 1
    assert not any("repeated" in note for note in pool.notes)


def test_a_recipe_and_a_size_that_are_asked_for_hold_for_all(eyes: Path, chests: Path) -> None:
    pool = gather_pool(job(eyes, chests, recipe="fundus", size=96), "mask")
    assert {(material.recipe.name, material.size) for material in pool.materials} == {("fundus", 96)}
    assert pool.channels == 1


def test_the_size_is_that_of_the_images_with_most_to_show(eyes: Path, tmp_path: Path) -> None:
    large = write_eyes(tmp_path / "large", channels=3)
    for path in (*(large / "images").iterdir(), *(large / "masks").iterdir()):
        Image.open(path).resize((160, 120), 0).save(path)
    (large / "clicks.csv").unlink()
    assert gather_pool(job(eyes, large), "mask").size == gather_pool(job(large, eyes), "mask").size == 160


def test_datasets_of_the_same_name_are_numbered(eyes: Path, tmp_path: Path) -> None:
    other = write_eyes(tmp_path / "other" / "eyes", channels=3)
    assert gather_pool(job(eyes, other), "mask").names == ("1 eyes", "2 eyes")


def test_channels_that_cannot_be_shared_are_refused(eyes: Path, chests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of the photographs, four of the volumes, as if they were of another kind."""
    count = Recipe.channels
    monkeypatch.setattr(Recipe, "channels", lambda recipe, image: max(count(recipe, image), len(image.planes) + 1))
    with pytest.raises(InputError, match=r"eyes: has images of 3 channels, another dataset of 4; choose a --recipe"):
        gather_pool(job(eyes, chests), "mask")


def test_one_dataset_twice_and_none_at_all_are_refused(eyes: Path) -> None:
    with pytest.raises(InputError, match=r"eyes: is named twice; name each dataset once"):
        gather_pool(job(eyes, eyes / "images" / ".."), "mask")
    with pytest.raises(InputError, match="no dataset was given"):
        Pretrain(data=(), out=Path("a.safetensors"))
    with pytest.raises(InputError, match="clicks are learned from one dataset at a time"):
        Pretrain(data=(Path("a"), Path("b")), out=Path("a.safetensors"))


def test_one_dataset_gives_a_plain_unet(eyes: Path, tmp_path: Path) -> None:
    out = tmp_path / "source.safetensors"
    last = journey.pretrain(str(eyes), out, task="segment", **TINY)
    assert last.summary["task"] == read_provenance(out).task == "segment" and not read_provenance(out).tasks
    assert set(last.summary["validation"]) == {"dice", "cases"}
