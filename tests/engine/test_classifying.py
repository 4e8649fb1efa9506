"""Pretraining on labels: from the table or the masks to a source that a segmentation takes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.optim.lookahead import Lookahead

from napari_tlseg.cli import main
from napari_tlseg.data.card import read_source
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.recipes import PLAIN
from napari_tlseg.data.split import read_split
from napari_tlseg.engine.pretraining import settle_job
from napari_tlseg.engine.trainings import Estimate, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.nets.checkpoint import load_model, read_provenance
from napari_tlseg.nets.classifier import Classifier
from tiny import FAST, disc, write_chests, write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "batch": 2, "device": "cpu", "precision": "float32"}


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    root = write_eyes(tmp_path / "eyes", 12)
    rows = [f"eye{number}.png,{number % 2},{number // 2 % 2}," for number in range(12)]
    (root / "labels.csv").write_text("\n".join(["image,left,old,odd", *rows]) + "\n")
    return root


@pytest.mark.parametrize("encoder", ["unet", "vgg11", "maknet"])
def test_from_labels_to_a_source_to_a_mask(encoder: str, eyes: Path, tmp_path: Path, capsys: Any) -> None:
    source, run = tmp_path / "labels.safetensors", tmp_path / "run"
    flags = [*FAST, "--encoder", encoder]
    assert main(["pretrain", str(eyes), "--task", "classify", "--out", str(source), *flags]) == 0
    said = capsys.readouterr().out
    assert "Trained 2 steps on labels. The source is in" in said and "  held-out: AUC" in said
    facts = read_provenance(source)
    assert facts.task == "classify" and facts.classes == ("left", "old", "odd") and len(facts.seen) == 10
    assert isinstance(load_model(source), Classifier) and read_source(source).learned == "labels"
    assert main(["finetune", str(eyes), "--source", str(source), "--lambda", "inf", "--out", str(run), *FAST]) == 0
    kept, given = load_file(run / "model.safetensors"), load_file(source)
    shared = [name for name in given if name.startswith("encoder.")]
    assert shared and all(torch.equal(kept[name], given[name]) for name in shared)
    assert main(["predict", str(eyes), "--model", str(source), "--out", str(tmp_path / "m")]) == 2
    assert "holds a classifier, which finds labels and no masks" in capsys.readouterr().err


def test_without_a_table_labels_follow_from_the_masks(tmp_path: Path) -> None:
    """Of every slice of a volume."""
    job = Pretrain(data=(write_chests(tmp_path / "chests"),), out=tmp_path / "s.safetensors", task="classify", **TINY)
    *_, last = job.run()
    assert isinstance(last, Finished) and last.summary["task"] == "classify"
    assert read_provenance(job.out).classes == ("lung", "infection")
    found = last.summary["held_out"]
    assert "recall lung" in found and "auc lung" not in found, "every slice shows some lung"


def test_the_optimizer_is_ranger(eyes: Path, tmp_path: Path) -> None:
    """RAdam with lookahead, whose learning rate is the one that the schedule moves."""
    job = Pretrain(data=(eyes,), out=tmp_path / "s.safetensors", task="classify", **TINY)
    optimizer = settle_job(job).optimizer
    assert isinstance(optimizer, Lookahead) and isinstance(optimizer._base_optimizer, torch.optim.RAdam)
    optimizer.param_groups[0]["lr"] = 0.5
    assert optimizer._base_optimizer.param_groups[0]["lr"] == 0.5


def test_an_estimate_knows_labels(eyes: Path, tmp_path: Path) -> None:
    job = Pretrain(data=(eyes,), out=tmp_path / "s.safetensors", task="classify", **TINY)
    (event,) = Estimate(of=job).run()
    assert isinstance(event, Finished) and event.summary["training"] + event.summary["validation"] == 10


def test_what_cannot_be_is_refused(eyes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels are learned from one dataset at a time"):
        Pretrain(data=(eyes, tmp_path), out=tmp_path / "s.safetensors", task="classify")
    with pytest.raises(InputError, match="--gamma -1 is not possible"):
        Pretrain(data=(eyes,), out=tmp_path / "s.safetensors", task="classify", gamma=-1)
    (eyes / "labels.csv").write_text("image,a\n")
    job = Pretrain(data=(eyes,), out=tmp_path / "s.safetensors", task="classify", **TINY)
    with pytest.raises(InputError, match="eyes: has no labels; add one for at least one image"):
        list(job.run())


def test_a_student_learns_what_its_teacher_says_of_other_images(eyes: Path, tmp_path: Path, capsys: Any) -> None:
    """Of images that the data does not hold; the table says what, and the student remembers all that went into it."""
    more, first, second = write_eyes(tmp_path / "more", 3), tmp_path / "first.safetensors", tmp_path / "b.safetensors"
    for number in range(2):
        Image.fromarray(disc(50 + number)[0]).save(more / "images" / f"eye{number}.png")  # eye2 is known
    (eyes / "ontology.toml").write_text('[parents]\nold = "odd"\n')
    assert main(["pretrain", str(eyes), "--task", "classify", "--out", str(first), *FAST]) == 0
    flags = ["--task", "classify", "--teacher", str(first), "--unlabelled", str(more), "--out", str(second), *FAST]
    assert main(["pretrain", str(eyes), *flags]) == 0
    assert "The teacher labelled 2 planes, as b.pseudo.csv says" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "b.pseudo.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["eye0.png", "eye1.png"]
    teacher = load_model(first)
    for row in rows:
        (square,) = PLAIN.squares(read_image(more / "images" / row["image"]), [0], 32)
        with torch.inference_mode():
            found = torch.sigmoid(teacher(torch.from_numpy(square[None]))[0, 1]) > 0.5
        told = dict(zip(("left", "old", "odd"), map(int, found), strict=True))
        told["odd"] |= told["old"]  # what is old is odd
        assert {name: int(row[name]) for name in told} == told
    known, shown = set(read_provenance(first).seen), {fingerprint(case) for case in list(read_dataset(more))[:2]}
    assert set(read_provenance(second).seen) == known | shown
    assert load_model(second).dropout.p == 0  # of the student in training alone


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--teacher", "x.safetensors"], "give --teacher and --unlabelled"),
        (["--teacher", "clicks.safetensors", "--unlabelled", "eyes"], "knows no labels of images"),
        (["--teacher", "other.safetensors", "--unlabelled", "eyes"], "asked for are left, old, odd"),
        (["--teacher", "x.safetensors", "--unlabelled", "eyes", "--task", "segment"], "napari-tlseg student"),
    ],
)
def test_no_teacher_of_other_things(
    flags: list[str], said: str, eyes: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(eyes.parent)
    if "clicks.safetensors" in flags:
        assert main(["pretrain", "eyes", "--out", "clicks.safetensors", *FAST]) == 0
    if "other.safetensors" in flags:
        assert (
            main(["pretrain", str(write_eyes(eyes.parent / "o")), "--task", "classify", "--out", flags[1], *FAST]) == 0
        )
    assert main(["pretrain", "eyes", "--task", "classify", "--out", "s.safetensors", *FAST, *flags]) == 2
    assert said in capsys.readouterr().err and not (eyes.parent / "s.safetensors").exists()


def test_in_one_folder_the_images_without_labels_are_labelled(eyes: Path) -> None:
    """But none that is held out or validates, and slices of volumes each."""
    chests = write_chests(eyes.parent / "chests", 8)
    for number in range(5, 8):
        (chests / "masks" / f"chest{number}.nii.gz").unlink()
    out = eyes.parent / "s.safetensors"
    list(Pretrain(data=(chests,), out=out, task="classify", **TINY).run())
    job = Pretrain(
        data=(chests,), out=eyes.parent / "t.safetensors", teacher=out, unlabelled=chests, task="classify", **TINY
    )
    list(job.run())
    rows = list(csv.DictReader((eyes.parent / "t.pseudo.csv").read_text().splitlines()))
    open_ = {n for n, part in read_split(chests).items() if part == "training" and int(n[5]) > 4}
    assert open_ and {row["image"] for row in rows} == {f"{name}.nii.gz#{z}" for name in open_ for z in range(3)}
