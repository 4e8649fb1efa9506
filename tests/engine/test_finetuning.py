"""What a run says of itself: where it began, and who was in which part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from napari_tlseg import journey
from napari_tlseg.data.run import read_summary
from napari_tlseg.engine import finetuning
from napari_tlseg.engine.jobs import Finetune
from napari_tlseg.engine.source import Source
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Stepped
from napari_tlseg.nets.checkpoint import read_provenance
from napari_tlseg.nets.encoders import make_encoder
from tiny import write_eyes

TINY: dict[str, Any] = {"steps": 2, "size": 32, "batch": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"))
    journey.finetune(root, root / "first", **TINY)
    return root


def test_a_stopped_run_names_the_cases_of_every_part(eyes: Path, tmp_path: Path) -> None:
    control = Control()
    for event in Finetune(data=eyes, out=tmp_path / "run", **TINY).run(control):
        control.stop = control.stop or isinstance(event, Stepped)
    stopped, whole = read_summary(tmp_path / "run"), read_summary(eyes / "first")
    assert stopped["reason"] == "stopped" and stopped["scored"] == 0
    for part in (lambda s: s, lambda s: s["validation"], lambda s: s["training"]):
        assert set(part(stopped)["cases"]) == set(part(whole)["cases"]) != set()


@pytest.mark.parametrize("given", ["first", "first/model.safetensors"])
def test_a_run_as_source_goes_by_the_name_of_its_folder(given: str, eyes: Path, tmp_path: Path) -> None:
    last = journey.finetune(eyes, tmp_path / "second", eyes / given, **TINY)
    assert last.summary["source"] == "first"
    assert read_provenance(tmp_path / "second" / "model.safetensors").init == "source"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_foreign_weights_are_a_source_and_named_as_such(suffix: str, eyes: Path, tmp_path: Path) -> None:
    path, weights = tmp_path / f"imagenet{suffix}", make_encoder("resnet18", 3).body.state_dict()
    torch.save(weights, path) if suffix == ".pth" else save_file(weights, path)
    last = journey.finetune(eyes, tmp_path / "run", path, encoder="resnet18", **TINY)
    assert last.summary["source"] == path.name and last.summary["encoder"] == "resnet18"
    assert read_provenance(tmp_path / "run" / "model.safetensors").init == path.name
    with pytest.raises(InputError, match="does not say which encoder it holds; name it with --encoder"):
        Source.find(path, None)


def test_the_record_of_each_kind_of_beginning() -> None:
    assert Source.find("imagenet", "resnet18").init == "imagenet"
    assert Source.find("none", None).init == "none"


def test_a_run_that_exists_is_refused_before_any_work(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetuning.Source, "find", lambda *given: pytest.fail("weights were looked for"))
    monkeypatch.setattr(finetuning, "gather", lambda *given: pytest.fail("the folder was read"))
    with pytest.raises(InputError, match="already holds a run"):
        journey.finetune(eyes, eyes / "first", "imagenet", encoder="resnet18", **TINY)


def test_cleaning_belongs_to_predict(eyes: Path) -> None:
    with pytest.raises(TypeError, match="clean"):
        Finetune(data=eyes, out=eyes / "run", clean=None)  # type: ignore[call-arg]


def test_the_first_event_comes_before_any_image_is_hashed(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    fingerprint = finetuning.read_samples.__globals__["fingerprint"]
    spy = lambda case: (hashed.append(case.name), fingerprint(case))[1]  # noqa: E731
    monkeypatch.setitem(finetuning.read_samples.__globals__, "fingerprint", spy)
    events = Finetune(data=eyes, out=tmp_path / "run", **TINY).run()
    next(events)
    assert not hashed
    events.close()  # type: ignore[attr-defined]
