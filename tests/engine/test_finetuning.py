"""What a run says of itself: where it began, and who was in which part."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.run import read_summary
from napari_tlseg.engine import finetuning, settling
from napari_tlseg.engine.source import Source
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Stepped
from napari_tlseg.nets.checkpoint import read_provenance
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet
from tiny import FAST, write_chests, write_eyes

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


def test_a_run_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    root = write_eyes(tmp_path / "eyes")
    run = Finetune(data=root, out=root / "runs" / "scratch", **{**TINY, "steps": 1}).run(Control())
    next(event for event in run if isinstance(event, Stepped))
    shutil.rmtree(root)
    with pytest.raises(InputError, match="scratch: no such file"):
        list(run)
    assert not root.exists()


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
    monkeypatch.setattr(Source, "find", lambda *given: pytest.fail("weights were looked for"))
    monkeypatch.setattr(settling, "gather", lambda *given: pytest.fail("the folder was read"))
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


# warm starts


@pytest.fixture(scope="module")
def source(eyes: Path) -> Path:
    journey.pretrain(eyes, eyes / "clicks.safetensors", **TINY)
    return eyes / "clicks.safetensors"


@pytest.fixture(scope="module")
def start(eyes: Path, source: Path) -> Path:
    """A run that has learned something, and gone away from its source."""
    journey.finetune(eyes, eyes / "start", source, **{**TINY, "steps": 40, "batch": 4}, strength=0)
    return eyes / "start"


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["event"] == "Stepped"]


def tensors(model: Path, prefix: str = "") -> dict[str, Tensor]:
    file = model / "model.safetensors" if model.is_dir() else model
    return {name: tensor for name, tensor in load_file(file).items() if name.startswith(prefix)}


def alike(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("given", ["start", "start/model.safetensors"])
def test_a_warm_start_goes_on_where_the_first_run_ended(
    given: str, eyes: Path, source: Path, start: Path, tmp_path: Path
) -> None:
    options = {**TINY, "steps": 3, "batch": 4}
    last = journey.finetune(eyes, tmp_path / "warm", source, start=eyes / given, strength=0, **options)
    (warm, *_), first = losses(tmp_path / "warm"), losses(start)
    assert warm < 0.6 * first[0] and warm < 1.3 * np.mean(first[-5:])
    assert last.summary["start"] == "start" and last.summary["start_sha256"] == read_summary(start)["sha256"]
    assert last.summary["source"] == "clicks.safetensors"
    record = read_provenance(tmp_path / "warm" / "model.safetensors")
    assert record.init == "start" and record.source_sha256 == last.summary["source_sha256"]


def test_the_drift_of_a_warm_start_is_measured_from_the_source(
    eyes: Path, source: Path, start: Path, tmp_path: Path
) -> None:
    journey.finetune(eyes, tmp_path / "warm", source, start=start, strength=0, learning_rate=1e-12, **TINY)
    drift = read_summary(start)["drift"]
    assert drift > 0.01 and read_summary(tmp_path / "warm")["drift"] == pytest.approx(drift, rel=1e-4)


def test_a_warm_start_with_the_frozen_encoder_has_that_of_the_source(
    eyes: Path, source: Path, start: Path, tmp_path: Path
) -> None:
    journey.finetune(eyes, tmp_path / "warm", source, start=start, strength=math.inf, **TINY)
    assert alike(tensors(tmp_path / "warm", "encoder."), tensors(source, "encoder."))
    assert not alike(tensors(start, "encoder."), tensors(source, "encoder."))


@pytest.mark.parametrize("norm", ["source", "target"])
def test_whose_statistics_a_warm_start_has(norm: str, eyes: Path, source: Path, start: Path, tmp_path: Path) -> None:
    """With norm=source those of the source, though the earlier run had its own; weights are the earlier run's."""
    options: dict[str, Any] = {**TINY, "steps": 1, "learning_rate": 1e-12}
    journey.finetune(eyes, tmp_path / "warm", source, start=start, strength=0, norm=norm, **options)
    found, of_source, of_start = (tensors(path, "encoder.") for path in (tmp_path / "warm", source, start))
    for name, tensor in found.items():
        if "running_mean" in name:
            assert torch.equal(tensor, of_source[name]) == (norm == "source")
        elif name.endswith("weight"):
            torch.testing.assert_close(tensor, of_start[name])


def test_the_decoder_of_a_warm_start_is_not_told_anew_what_to_expect(
    eyes: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UNet, "expect", lambda *given: pytest.fail("the bias was overwritten"))
    journey.finetune(eyes, tmp_path / "warm", start=start, **TINY)


def test_without_a_source_all_is_as_in_the_earlier_run(tmp_path: Path) -> None:
    """Encoder, recipe and size; nothing is said, and the images alone would get others."""
    eyes = write_eyes(tmp_path / "eyes", channels=3)
    options: dict[str, Any] = {"steps": 1, "batch": 2, "device": "cpu"}
    journey.finetune(eyes, tmp_path / "start", encoder="resnet18", recipe="fundus", size=64, **options)
    last = journey.finetune(eyes, tmp_path / "warm", start=tmp_path / "start", **options)
    assert [last.summary[key] for key in ("encoder", "recipe", "size")] == ["resnet18", "fundus", 64]
    assert last.summary["drift"] is None and last.summary["source"] == "none"
    said = (tmp_path / "warm" / "events.jsonl").read_text()
    assert "Goes on from start, with recipe fundus and images of 64 pixels." in said
    last = journey.finetune(eyes, tmp_path / "own", start=tmp_path / "start", size=32, **options)
    assert [last.summary[key] for key in ("recipe", "size")] == ["fundus", 32]


def test_a_start_that_began_with_foreign_weights_needs_them_no_more(eyes: Path, tmp_path: Path) -> None:
    """Its body takes three channels, the images have one."""
    save_file(make_encoder("resnet18", 3).body.state_dict(), tmp_path / "imagenet.safetensors")
    journey.finetune(eyes, tmp_path / "start", tmp_path / "imagenet.safetensors", encoder="resnet18", **TINY)
    journey.finetune(eyes, tmp_path / "warm", start=tmp_path / "start", **TINY)
    last = journey.finetune(
        eyes, tmp_path / "held", tmp_path / "imagenet.safetensors", start=tmp_path / "start", **TINY
    )
    assert last.summary["encoder"] == "resnet18" and last.summary["drift"] > 0


def test_recipe_and_size_of_the_start_go_before_those_of_the_source(eyes: Path, source: Path, tmp_path: Path) -> None:
    journey.finetune(eyes, tmp_path / "start", source, **{**TINY, "size": 64})
    last = journey.finetune(eyes, tmp_path / "warm", source, start=tmp_path / "start", **{**TINY, "size": None})
    assert last.summary["size"] == 64 and read_provenance(source).size == 32


def test_what_the_start_saw_is_remembered_and_marked(tmp_path: Path) -> None:
    """After a new draw of the parts: held-out cases that it learned from are in no mean."""
    eyes = write_eyes(tmp_path / "eyes")
    parts = ["training"] * 6 + ["validation", "held-out"]
    for out, options in (("start", {}), ("warm", {"start": tmp_path / "start"})):
        rows = [f"eye{number},{part}" for number, part in enumerate(parts)]
        (eyes / "split.csv").write_text("\n".join(["case,part", *rows]) + "\n")
        last = journey.finetune(eyes, tmp_path / out, **TINY, **options)
        parts.reverse()
    assert last.summary["seen"] == last.summary["cases"] == ["eye0"] and last.summary["scored"] == 0
    assert len(read_provenance(tmp_path / "warm" / "model.safetensors").seen) == 8
    said = (tmp_path / "warm" / "events.jsonl").read_text()
    assert "1 of 1 held-out cases were seen by the source or the start: their scores are marked" in said


def test_a_start_that_does_not_fit_is_refused_in_a_sentence(
    eyes: Path, source: Path, start: Path, tmp_path: Path
) -> None:
    colour, chests = write_eyes(tmp_path / "colour", channels=3), write_chests(tmp_path / "chests")
    wide = tmp_path / "wide"
    journey.finetune(eyes, wide, encoder="resnet18", **TINY)
    for data, options, why in (
        (eyes, {"start": source}, "holds a localizer, which finds centres and no masks"),
        (
            eyes,
            {"start": start, "encoder": "resnet18"},
            "holds encoder unet, this run has resnet18; start from another",
        ),
        (eyes, {"start": wide, "source": source}, "holds encoder resnet18, this run has unet"),
        (colour, {"start": start, "recipe": "plain"}, "takes images of 1 channels, these have 3"),
        (
            chests,
            {"start": start},
            "knows the classes background, target, these masks have background, lung, infection",
        ),
        (eyes, {"start": tmp_path / "nowhere"}, "there is no such model file"),
    ):
        with pytest.raises(InputError, match=why):
            finetune = Finetune(data=data, out=tmp_path / "run", **TINY, **options)
            list(finetune.run())
        assert not (tmp_path / "run").exists()


def test_a_start_whose_shapes_are_not_those_of_the_source(eyes: Path, start: Path, tmp_path: Path) -> None:
    """The same encoder by name, but its body takes another number of channels."""
    save_file(make_encoder("resnet18", 3).body.state_dict(), tmp_path / "imagenet.safetensors")
    journey.finetune(eyes, tmp_path / "scratch", encoder="resnet18", **TINY)
    with pytest.raises(InputError, match="its weights have other shapes than those of the source"):
        options = {**TINY, "start": tmp_path / "scratch"}
        journey.finetune(eyes, tmp_path / "run", tmp_path / "imagenet.safetensors", **options)


@pytest.mark.parametrize("role", ["start", "source"])
def test_a_run_may_be_replaced_by_the_one_that_it_leads_to(role: str, eyes: Path, start: Path, tmp_path: Path) -> None:
    """It is read before it is set aside; where the new one fails it is back."""
    run = tmp_path / "run"
    journey.finetune(eyes, run, start=start, **TINY)
    before, first = tensors(run), read_summary(run)
    options = {**TINY, role: run, "overwrite": True}
    with pytest.raises(InputError, match="already holds a run"):
        journey.finetune(eyes, run, **{**options, "overwrite": False})
    mask = eyes / "masks" / "eye0.png"
    good = mask.read_bytes()
    mask.write_bytes(good[:50])
    try:
        with pytest.raises(InputError, match=r"eye0\.png"):
            journey.finetune(eyes, run, **options)
    finally:
        mask.write_bytes(good)
    assert alike(tensors(run), before) and read_summary(run) == first
    last = journey.finetune(eyes, run, **options, learning_rate=1e-12)
    assert last.summary[role] == "run" and last.summary[f"{role}_sha256"] == first["sha256"]
    for name, tensor in tensors(run, "encoder.").items():
        if name.endswith("weight"):
            torch.testing.assert_close(tensor, before[name])


def test_start_on_the_command_line(eyes: Path, source: Path, start: Path, tmp_path: Path) -> None:
    words = ["finetune", eyes, "--source", source, "--start", start, "--out", tmp_path / "run", "--lambda", "8", *FAST]
    assert main([str(word) for word in words]) == 0
    assert read_summary(tmp_path / "run")["start"] == "start"
    assert json.loads((tmp_path / "run" / "job.json").read_text())["start"] == str(start)


def test_stages_that_are_held_stay_and_the_others_learn(eyes: Path, tmp_path: Path) -> None:
    weights = ("--stage-weights", "1", "1", "0", "0", "0")
    source, run = eyes / "first" / "model.safetensors", tmp_path / "run"
    flags = ("--source", str(source), "--lambda", "inf", "--out", str(run), *FAST)
    assert main(["finetune", str(eyes), *weights, *flags]) == 0
    before, after = load_file(source), load_file(run / "model.safetensors")
    names = [name for name in before if name.startswith("encoder.body.levels")]
    moved = {name.split(".")[3] for name in names if not torch.equal(before[name], after[name])}
    assert moved == {"2", "3", "4"}
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    drifts = [event["drifts"] for event in events if event["event"] == "Evaluated"][-1]
    assert drifts[:2] == [0, 0] and min(drifts[2:]) > 0


def test_a_wrong_number_of_stage_weights_is_said(
    eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--source", str(eyes / "first"), "--stage-weights", "1", "0", "--out", str(tmp_path / "run"), *FAST)
    assert main(["finetune", str(eyes), *flags]) == 2
    assert "2 numbers, encoder unet has 5 stages" in capsys.readouterr().err


# what is taken of the source


def test_the_lowest_layers_stay_at_infinity_and_the_others_learn(eyes: Path, source: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**TINY, "transfer": "lowest:2", "strength": math.inf}
    last = journey.finetune(eyes, tmp_path / "run", source, **options)
    kept, given = tensors(tmp_path / "run", "encoder."), tensors(source, "encoder.")
    same = {name for name in kept if name.endswith("weight") and torch.equal(kept[name], given[name])}
    assert same == {f"encoder.body.levels.0.{place}.weight" for place in (0, 1, 3, 4)}
    assert last.summary["drift"] == 0 and last.summary["transfer"] == "lowest:2"
    assert read_provenance(tmp_path / "run" / "model.safetensors").transfer == "lowest:2"
    said = (tmp_path / "run" / "events.jsonl").read_text()
    assert "The 2 lowest convolution layers are the source's, and held to it; the others are drawn anew." in said


def test_of_mean_and_variance_nothing_is_held_but_the_source_is_remembered(
    eyes: Path, source: Path, tmp_path: Path
) -> None:
    last = journey.finetune(eyes, tmp_path / "run", source, transfer="mean-var", strength=0, **TINY)
    assert last.summary["drift"] is None and last.summary["lambda"] == 0
    assert last.summary["source"] == "clicks.safetensors" and last.summary["source_sha256"]
    record = read_provenance(tmp_path / "run" / "model.safetensors")
    assert record.transfer == "mean-var" and set(read_provenance(source).seen) <= set(record.seen)
    assert "λ has nothing to hold the encoder to" in (tmp_path / "run" / "events.jsonl").read_text()


def test_a_transfer_that_cannot_be_is_refused(eyes: Path, source: Path, tmp_path: Path) -> None:
    for options, said in (
        ({"transfer": "mean-var"}, "--transfer mean-var leaves --lambda 0.001 nothing to hold to; give --lambda 0"),
        ({"transfer": "half"}, "--transfer half is not possible; give full, mean-var or lowest:K"),
        ({"transfer": "lowest:99", "strength": 1}, "lowest:99 cannot be: encoder unet has 10 convolutions"),
    ):
        with pytest.raises(InputError, match=said):
            journey.finetune(eyes, tmp_path / "run", source, **TINY, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--transfer lowest:2 takes from a source, there is none; add --source"):
        journey.finetune(eyes, tmp_path / "run", transfer="lowest:2", **TINY)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("norm", ["source", "target"])
def test_a_warm_start_with_the_lowest_layers_keeps_its_own_statistics_above(
    norm: str, eyes: Path, source: Path, start: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {**TINY, "steps": 1, "learning_rate": 1e-12, "transfer": "lowest:2", "norm": norm}
    journey.finetune(eyes, tmp_path / "warm", source, start=start, strength=0, **options)
    found, of_source, of_start = (tensors(path, "encoder.") for path in (tmp_path / "warm", source, start))
    low, high = ("encoder.body.levels.0.1.running_var", "encoder.body.levels.4.1.running_var")
    assert torch.equal(found[low], of_source[low]) == (norm == "source")
    assert (found[high] - of_start[high]).abs().max() < 0.2 * of_start[high].max()
    torch.testing.assert_close(found[high], 0.9 * of_start[high], rtol=1, atol=0.1)


@pytest.fixture(scope="module")
def whole(eyes: Path) -> Path:
    """A source with a decoder, from clicks."""
    path = eyes / "whole.safetensors"
    journey.pretrain(eyes, path, head="unet", **TINY)
    return path


def test_the_decoder_too_is_taken_and_frozen_at_infinity(eyes: Path, whole: Path, tmp_path: Path) -> None:
    """Weights and statistics, bit for bit; only the last convolution learns."""
    last = journey.finetune(eyes, tmp_path / "run", whole, anchor="all", strength=math.inf, **TINY)
    source, model = load_file(whole), load_file(tmp_path / "run" / "model.safetensors")
    moved = {name for name, tensor in model.items() if not torch.equal(tensor, source[name])}
    assert moved == {"decoder.logits.weight", "decoder.logits.bias"}
    assert last.summary["drift"] == 0


@pytest.mark.parametrize("anchor", ["encoder", "all"])
def test_what_is_held_stays_near(anchor: str, eyes: Path, whole: Path, tmp_path: Path) -> None:
    """At a λ that lets hardly anything move; what is not held is another seed's."""
    journey.finetune(eyes, tmp_path / "run", whole, anchor=anchor, strength=100.0, seed=1, **TINY)
    source, model = load_file(whole), load_file(tmp_path / "run" / "model.safetensors")
    weights = [name for name in model if name.endswith("0.weight")]
    away = {name: float((model[name] - source[name]).norm() / source[name].norm()) for name in weights}
    decoder = [far for name, far in away.items() if name.startswith("decoder.blocks")]
    assert all(far < 0.02 for far in decoder) if anchor == "all" else all(far > 0.2 for far in decoder)


def test_a_source_without_a_decoder_cannot_give_one(eyes: Path, tmp_path: Path) -> None:
    journey.pretrain(eyes, tmp_path / "clicks.safetensors", head="heatmap", **TINY)
    with pytest.raises(
        InputError, match=r"clicks.safetensors: --anchor all takes a decoder too, the source holds none"
    ):
        journey.finetune(eyes, tmp_path / "run", tmp_path / "clicks.safetensors", anchor="all", **TINY)
    with pytest.raises(InputError, match="--anchor all takes all of a source; add --source, and no --transfer"):
        Finetune(data=eyes, out=tmp_path / "run", anchor="all")
