"""Pretraining on labels: from the table or the masks to a source that a segmentation takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from timm.optim.lookahead import Lookahead

from napari_tlseg.cli import main
from napari_tlseg.data.card import read_source
from napari_tlseg.engine.pretraining import settle_job
from napari_tlseg.engine.trainings import Estimate, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.nets.checkpoint import load_model, read_provenance
from napari_tlseg.nets.classifier import Classifier
from tiny import FAST, write_chests, write_eyes

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
