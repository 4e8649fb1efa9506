"""3-D as a user has it: from two sets of CTs to masks on the grid of the images, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_tlseg import journey
from napari_tlseg.engine.trainings import Estimate, Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import read_provenance
from tiny import FAST, slanted, write_chests, write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "device": "cpu", "precision": "float32"}
THREE = """
import sys
from napari_tlseg.cli import main
commands, command = [], []
for word in (*sys.argv[1:], "then"):
    if word == "then":
        assert main(command) == 0
        command = []
    else:
        command.append(word)
"""


def command_lines(*commands: list[str | Path]) -> subprocess.CompletedProcess[str]:
    """One after the other, in a process that imports torch once."""
    words = [str(word) for command in commands for word in (*command, "then")][:-1]
    return subprocess.run([sys.executable, "-c", THREE, *words], capture_output=True, text=True)


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chests(tmp_path_factory.mktemp("data") / "chests")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eyes(tmp_path_factory.mktemp("data") / "eyes", count=4)


def test_med3d_from_two_sets_to_masks_on_the_affine_of_the_images(chests: Path, tmp_path: Path) -> None:
    """At λ = ∞ the encoder that was shared is the run's, bit for bit, statistics too."""
    others, source, run, masks = (tmp_path / name for name in ("others", "med.safetensors", "run", "masks"))
    write_chests(others, count=4)
    done = command_lines(
        ["pretrain", chests, others, "--task", "segment", "--encoder", "resnet10-med3d", "--out", source, *FAST],
        ["finetune", chests, "--source", source, "--lambda", "inf", "--out", run, *FAST],
        ["predict", chests, "--model", run, "--out", masks, "--device", "cpu"],
    )
    assert done.returncode == 0, done.stderr
    assert "Volumes are seen in patches of 3 planes, as they were scanned, by 32 × 32 pixels of planes of 32." in (
        done.stdout
    )
    assert "its encoder moved by 0.0%" in done.stdout and "6 of 6 masks" in done.stdout
    facts = read_provenance(source)
    assert (facts.task, facts.encoder, facts.patch) == ("hydra", "resnet10-med3d", (3, 32))
    assert list(facts.tasks) == ["chests", "others"] and read_provenance(run / "model.safetensors").patch == (3, 32)
    given, kept = load_file(source), load_file(run / "model.safetensors")
    encoder = [name for name in given if name.startswith("encoder.")]
    assert len(encoder) > 60 and all(torch.equal(given[name], kept[name]) for name in encoder)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["lambda"] == "inf" and summary["drift"] == 0 and summary["source"] == "med.safetensors"
    for image in (chests / "images").iterdir():
        found, original = nib.load(masks / image.name), nib.load(image)
        assert found.shape == original.shape and np.array_equal(found.affine, slanted().astype(np.float32))
        assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1, 2}


def test_a_source_of_clicks_becomes_an_encoder_of_volumes(chests: Path, eyes: Path, tmp_path: Path) -> None:
    """Held at ∞ its kernels are those of the 2-D source, one plane deep; its size and recipe are the source's too."""
    clicks, run = tmp_path / "clicks.safetensors", tmp_path / "run"
    journey.pretrain(eyes, clicks, batch=2, **TINY)
    options = TINY | {"size": None, "recipe": "ct-lung"}
    said = journey.finetune(chests, run, clicks, encoder="unet-3d", strength=float("inf"), **options)
    flat, deep = load_file(clicks), load_file(run / "model.safetensors")
    encoder = [name for name in flat if name.startswith("encoder.body")]
    assert encoder and all(torch.equal(flat[n], deep[n].reshape(flat[n].shape)) for n in encoder)
    assert deep["encoder.body.levels.0.0.weight"].shape == (16, 1, 1, 3, 3)
    assert said.summary["encoder"] == "unet-3d" and said.summary["size"] == 32
    assert said.summary["source_sha256"] and said.summary["drift"] == 0
    again = journey.finetune(chests, tmp_path / "again", clicks, start=run, strength=0.0, **options)
    assert again.summary["encoder"] == "unet-3d" and again.summary["start"] == "run"


def test_only_painted_planes_are_learned_from_and_scored(tmp_path: Path) -> None:
    """What lies in the mask's file on the others is never read: it may be anything."""
    sums = []
    for name, rubbish in (("clean", 0), ("rubbish", 1)):
        data = write_chests(tmp_path / name, count=5)
        for mask in (data / "masks").iterdir():
            array = np.asarray(nib.load(mask).dataobj).copy()
            array[..., [0, 2]] = rubbish
            nib.save(nib.Nifti1Image(array, slanted()), mask)
        rows = [f"chest{number}.nii.gz,1" for number in range(5)]
        (data / "labelled.csv").write_text("\n".join(["image,z", *rows]) + "\n")
        found = journey.finetune(data, tmp_path / f"{name}-run", encoder="unet-3d", **TINY)
        sums.append((found.summary["sha256"], found.summary["dice_mean"]))
    assert sums[0] == sums[1]


def test_a_step_has_two_patches_unless_more_are_asked_for(chests: Path, tmp_path: Path) -> None:
    """And of two data sets one each; an estimate says so, and costs a few steps."""
    facts = TINY | {"out": tmp_path / "run", "encoder": "unet-3d"}
    for batch, expected in ((None, 2), (3, 3)):
        *_, last = Estimate(of=Finetune(data=chests, batch=batch, **facts)).run()
        assert last.summary["batch"] == expected and last.summary["encoder"] == "unet-3d"
        assert last.summary["seconds"] > 0 and not (tmp_path / "run").exists()
    assert Finetune(data=chests, out=tmp_path / "run").per_step(False) == 8


def test_photographs_and_clicks_are_of_planes(eyes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a single image, and encoder unet-3d sees volumes; choose an encoder"):
        journey.finetune(eyes, tmp_path / "run", encoder="unet-3d", **TINY)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="encoder unet-3d sees volumes, and learns from masks; add --task segment"):
        Pretrain(data=(eyes,), out=tmp_path / "s.safetensors", encoder="unet-3d")


def test_a_decoder_of_planes_and_crops_are_nothing_for_volumes(chests: Path, tmp_path: Path) -> None:
    flat, clicks = tmp_path / "flat.safetensors", tmp_path / "clicks.safetensors"
    journey.pretrain(chests, flat, task="segment", **TINY | {"steps": 1})
    with pytest.raises(InputError, match="takes a decoder too, the source holds none of this shape"):
        journey.finetune(chests, tmp_path / "run", flat, encoder="unet-3d", anchor="all", **TINY)
    with pytest.raises(InputError, match="--focus looks at crops of planes, and encoder unet-3d sees volumes"):
        journey.finetune(chests, tmp_path / "run", flat, encoder="unet-3d", focus=clicks, **TINY)


def test_a_noisy_student_learns_from_volumes_without_masks(tmp_path: Path) -> None:
    """Two of six have none; what the teacher is not sure of there is ignored, of whole volumes as of planes."""
    data, run = write_chests(tmp_path / "chests"), tmp_path / "run"
    for number in (0, 1):
        (data / "masks" / f"chest{number}.nii.gz").unlink()
    options = TINY | {"encoder": "unet-3d", "threshold": 0.3, "held_out": 0}
    said = journey.student(data, data, run, **options)
    assert read_provenance(run / "model.safetensors").patch == (3, 32)
    assert said.summary["rounds"][1]["pseudo"]["images"] > 0


@pytest.mark.slow
def test_lungs_of_real_ct(shared_data: Path, tmp_path: Path) -> None:
    """Three volumes to learn from, planes shrunk to 32 pixels: the lungs are found in the fourth."""
    data, size = shared_data / "lung_nifti", 32
    options = {"size": size, "held_out": 0.25, "steps": 20, "learning_rate": 1e-2, "device": "cpu"}
    found = journey.finetune(data, tmp_path / "run", encoder="unet-3d", **options)
    assert found.summary["scored"] == 1 and found.summary["dice_mean"] > 0.7
