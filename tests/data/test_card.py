"""A source's card: read without torch or the weights, refused with a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.card import find_sources, read_source
from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import load
from tiny import write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "batch": 2, "device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody has worked: a source of clicks, one of masks, and a run."""
    root = tmp_path_factory.mktemp("eyes")
    write_eyes(root)
    journey.pretrain(root, root / "sources" / "clicks.safetensors", **TINY)
    journey.pretrain(root, root / "sources" / "masks.safetensors", task="segment", **TINY)
    journey.finetune(
        root, root / "runs" / "first", root / "sources" / "clicks.safetensors", transfer="lowest:1", **TINY
    )
    return root


def test_a_card_says_what_the_file_says(place: Path) -> None:
    path = place / "sources" / "clicks.safetensors"
    card, checkpoint = read_source(path), load(path)
    assert card.sha256 == checkpoint.sha256 and card.name == "clicks.safetensors"
    assert card.facts == json.loads(checkpoint.provenance.to_json())
    error = checkpoint.provenance.scores["error"]
    said = "\n".join(card.lines())
    assert f"Learned from clicks of {place.name}, {len(checkpoint.provenance.seen)} cases seen." in said
    assert f"On its own validation cases: {error:.1f} px off." in said
    assert "Encoder unet, begun with none; 2 steps." in said and card.sha256[:12] in said


def test_a_run_is_a_source_by_the_name_of_its_folder(place: Path) -> None:
    card = read_source(place / "runs" / "first" / "model.safetensors")
    sha256 = read_source(place / "sources" / "clicks.safetensors").sha256
    assert card.name == "first" and card.began == f"source {sha256[:12]} (lowest:1)"
    assert card.validation.startswith("Dice ") and card.learned == "masks"


def test_a_card_needs_no_torch(place: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from napari_tlseg.data.card import read_source
print(read_source(Path({str(place / "sources" / "masks.safetensors")!r})).row["of"], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [place.name, "False"]


def damaged(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def cut(path: Path) -> None:
    path.write_bytes((2000).to_bytes(8, "little") + b'{"__metadata__": {')


def foreign(path: Path) -> None:
    save_file({"conv.weight": torch.zeros(3)}, path)


def incomplete(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path, metadata={"provenance": '{"task": "segment"}', "sha256": "a"})


def no_object(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path, metadata={"provenance": "[1]", "sha256": "a"})


@pytest.mark.parametrize("spoil", [damaged, cut, foreign, incomplete, no_object])
def test_what_is_no_source_is_said_and_passed_over(spoil: Any, place: Path, tmp_path: Path, capsys: Any) -> None:
    spoil(tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match=r"odd.safetensors: does not say where its weights come from"):
        read_source(tmp_path / "odd.safetensors")
    shutil.copy(place / "sources" / "masks.safetensors", tmp_path)
    assert main(["sources", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "odd.safetensors: does not say" in said and said.splitlines()[-1].split()[0] == "masks.safetensors"


def test_a_missing_file_and_folder_are_said(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_source(tmp_path / "a.safetensors")
    assert main(["sources", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["sources", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "No source is there: pretrain makes one.\n"


def test_sources_are_listed_as_a_table_and_as_json(place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert main(["sources"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["source", "learned"]
    assert [line.split()[0] for line in lines] == ["clicks.safetensors", "masks.safetensors", "first"]
    assert main(["sources", str(place), "--json"]) == 0
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    found = {Path(source["path"]).name: source for source in event["summary"]["sources"]}
    facts = found["clicks.safetensors"]["provenance"]
    assert facts == read_source(place / "sources" / "clicks.safetensors").facts
    assert found["model.safetensors"]["provenance"]["source_sha256"] == found["clicks.safetensors"]["sha256"]


def test_hidden_folders_are_passed_over(place: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "run" / ".replaced", tmp_path / "run"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "sources" / "masks.safetensors", folder / "model.safetensors")
    assert list(find_sources(tmp_path)) == [tmp_path / "run" / "model.safetensors"]


def test_a_source_is_handed_over_as_one_file(place: Path, tmp_path: Path) -> None:
    """In another folder, far from its images, it gives the same weights, bit for bit, and still knows what it saw."""
    handed = shutil.copy(place / "sources" / "masks.safetensors", tmp_path / "from a colleague.safetensors")
    eyes = shutil.copytree(place / "images", tmp_path / "eyes" / "images").parent
    shutil.copytree(place / "masks", eyes / "masks")
    options: dict[str, Any] = {**TINY, "strength": 0.5}
    one = journey.finetune(place, tmp_path / "one", place / "sources" / "masks.safetensors", **options)
    other = journey.finetune(eyes, tmp_path / "other", handed, held_out=0.5, **options)
    assert other.summary["source_sha256"] == one.summary["source_sha256"]
    assert other.summary["source"] == "from a colleague.safetensors"
    assert other.summary["seen"], "held-out cases that the source was trained on are known by their content"
    journey.finetune(
        eyes, tmp_path / "frozen", handed, steps=1, strength=np.inf, **{k: v for k, v in TINY.items() if k != "steps"}
    )
    kept, given = load_file(tmp_path / "frozen" / "model.safetensors"), load_file(handed)
    assert all(torch.equal(kept[name], given[name]) for name in given if name.startswith("encoder."))
