"""What a training would cost, found without a trace; and refused in the same words as the training."""

from __future__ import annotations

import math
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_tlseg import journey
from napari_tlseg.data.run import read_summary
from napari_tlseg.engine import estimating, finetuning, pretraining
from napari_tlseg.engine.trainings import Estimate, Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Stepped
from tiny import write_chests, write_eyes

TINY: dict[str, Any] = {"size": 32, "batch": 2, "device": "cpu", "precision": "float32"}
Training = Pretrain | Finetune


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets, as if the split had not been drawn yet, a source and a run."""
    root = tmp_path_factory.mktemp("template")
    eyes = write_eyes(root / "eyes")
    write_chests(root / "chests")
    journey.pretrain(eyes, root / "clicks.safetensors", steps=1, **TINY)
    journey.finetune(eyes, root / "run", steps=1, **TINY)
    (eyes / "split.csv").unlink()
    return root


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path


def clicks(root: Path, **options: Any) -> Pretrain:
    return Pretrain(**{"data": (root / "eyes",), "out": root / "new" / "s.safetensors", **TINY, **options})


def masks(root: Path, **options: Any) -> Pretrain:
    return clicks(root, **{"task": "segment", **options})


def scratch(root: Path, **options: Any) -> Finetune:
    return Finetune(**{"data": root / "eyes", "out": root / "new" / "run", **TINY, **options})


def anchored(root: Path, **options: Any) -> Finetune:
    return scratch(root, **{"source": root / "clicks.safetensors", "strength": 0.5, "norm": "source", **options})


def frozen(root: Path, **options: Any) -> Finetune:
    return anchored(root, **{"strength": math.inf, **options})


def warm(root: Path, **options: Any) -> Finetune:
    return scratch(root, **{"start": root / "run", **options})


def volumes(root: Path, **options: Any) -> Finetune:
    return scratch(root, **{"data": root / "chests", **options})


def hydra(root: Path, **options: Any) -> Pretrain:
    return masks(root, data=(root / "eyes", root / "chests"), **options)


def images_of(job: Training) -> int:
    folders = job.data if isinstance(job, Pretrain) else (job.data,)
    return sum(len(list((folder / "images").iterdir())) for folder in folders)


EVERY = pytest.mark.parametrize("kind", [clicks, masks, hydra, scratch, anchored, frozen, warm, volumes])


def estimate(job: Training, control: Control | None = None) -> Finished:
    (event,) = Estimate(of=job).run(control)
    assert isinstance(event, Finished) and event.out is None
    return event


def tree(root: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@EVERY
def test_an_estimate_says_what_the_training_will_be_and_leaves_no_trace(kind: Any, place: Path) -> None:
    job, before = kind(place, steps=60), tree(place)
    found = estimate(job)
    assert tree(place) == before
    assert found.reason == "done"
    facts = dict(found.summary)
    seconds, step = facts.pop("seconds"), facts.pop("seconds_per_step")
    assert 0 < 60 * step < seconds < 60 * step + 30
    parts = [facts.pop(part) for part in ("training", "validation", "held_out")]
    assert min(parts) > 0 and sum(parts) == images_of(job)
    assert facts == {"size": 32, "encoder": "unet", "batch": 2}


def test_the_parts_are_those_of_the_training(place: Path) -> None:
    job = scratch(place, steps=1, labels=5)
    facts = estimate(job).summary
    list(job.run())
    made = read_summary(job.out)
    counted = [len(made["training"]["cases"]), len(made["validation"]["cases"]), len(made["cases"])]
    assert [facts["training"], facts["validation"], facts["held_out"]] == counted == [4, 1, 2]


def test_the_settings_left_open_are_those_of_the_training(place: Path) -> None:
    """Size and encoder come from the source, without one from the recipe and the images."""
    assert estimate(anchored(place, size=None)).summary["size"] == 32
    assert estimate(scratch(place, size=None)).summary["size"] == 64
    assert estimate(scratch(place, encoder="resnet18")).summary["encoder"] == "resnet18"


@EVERY
def test_the_network_is_that_of_the_training(kind: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimate and training meet in `fit`: what they bring there is alike but for the samples."""
    seen: list[tuple[Any, ...]] = []

    def spy(fit: Any) -> Any:
        def spied(model: Any, objective: Any, optimizer: Any, schedule: Any, **options: Any) -> Iterator[Event]:
            anchor, control = options.pop("anchor", None), options.pop("control")
            facts = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in model.state_dict().items()]
            images, target = objective.batch(np.random.default_rng(0))
            norm = options.pop("norm", "target")
            strength = anchor and anchor.strength
            shapes = images.shape, images.dtype, target.shape, target.dtype
            planes = [sample.case for sample in objective.validation]
            seen.append((facts, type(optimizer), optimizer.defaults["lr"], strength, norm, *shapes, planes, options))
            yield from fit(model, objective, optimizer, schedule, anchor=anchor, norm=norm, control=control, **options)

        return spied

    for module in (estimating, finetuning, pretraining):
        monkeypatch.setattr(module, "fit", spy(module.fit))  # type: ignore[attr-defined]
    job = kind(place, steps=2)
    estimate(job)
    list(job.run())
    assert len(seen) == 2 and seen[0] == seen[1]


# how it is reckoned


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: list[float], look: float) -> None:
        self.now, self.taken = 0.0, 0
        monkeypatch.setattr(estimating.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(estimating, "fit", lambda *_, **__: self._fit(steps))
        monkeypatch.setattr(estimating, "evaluate", lambda *_: self._pass(look))

    def _fit(self, steps: list[float]) -> Iterator[Event]:
        for self.taken, seconds in enumerate(steps, 1):
            self._pass(seconds)
            yield Stepped(step=self.taken, loss=1.0)

    def _pass(self, seconds: float) -> None:
        self.now += seconds


def test_steps_and_looks_are_added(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step counts for nothing, as it is slow; 101 steps have five looks, of one plane each."""
    clock = Clock(monkeypatch, [90, 0.25, 0.75, 0.5, 1000], look=0.125)
    monkeypatch.setattr(estimating, "ENOUGH", 1000)
    facts = estimate(scratch(place, steps=101, labels=5)).summary
    assert clock.taken == 4
    assert (facts["seconds_per_step"], facts["seconds"]) == (0.5, 101 * 0.5 + 5 * 0.125)


def test_slow_steps_are_few(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, [9, 7, 1000], look=0)
    assert estimate(scratch(place)).summary["seconds_per_step"] == 7
    assert clock.taken == 2


def test_a_look_at_volumes_is_at_all_their_planes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only eight are tried, of one validation volume of 20; none without validation."""
    for folder in ("images", "masks"):
        for path in (place / "chests" / folder).iterdir():
            image = nib.load(path)
            voxels = np.repeat(np.asarray(image.dataobj), 7, axis=2)[..., :20]
            nib.save(nib.Nifti1Image(voxels, image.affine), path)
    shutil.rmtree(place / "chests" / "rois")
    Clock(monkeypatch, [0, 0, 0, 0], look=8.0)
    assert estimate(volumes(place, steps=50, held_out=0)).summary["seconds"] == 2 * 20
    assert estimate(volumes(place, steps=50, labels=2)).summary["seconds"] == 0


# what stops it


@pytest.mark.parametrize("kind", [clicks, anchored])
def test_a_stop_ends_it_after_a_step(kind: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, steps, fit = Control(), [], estimating.fit

    def pressed(*given: Any, **options: Any) -> Iterator[Event]:
        for event in fit(*given, **options):
            steps.append(event)
            control.stop = True
            yield event

    monkeypatch.setattr(estimating, "fit", pressed)
    assert estimate(kind(place), control) == Finished(reason="stopped", out=None)
    assert len(steps) == 1


def test_a_full_memory_is_said_with_what_helps_the_training(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(estimating, "evaluate", full)
    with pytest.raises(InputError, match="memory is full; try a smaller --batch or --size"):
        estimate(scratch(place, labels=5))


def refusal(events: Iterator[Event]) -> str:
    """The sentence that a job ends with."""
    with pytest.raises(InputError) as caught:
        list(events)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "missing", "said"),
    [
        (clicks, {}, "eyes/clicks.csv", "eyes: has no clicks; add one"),
        (scratch, {}, "eyes/masks", "eyes: has no masks; add one"),
        (masks, {}, "eyes/masks", "eyes: has no masks; add one"),
        (scratch, {}, "eyes", "there is no such folder"),
        (scratch, {"labels": 60}, "", "60 masks were asked for, 6 are there"),
        (scratch, {"masks": "more"}, "", "more: there is no such folder"),
        (scratch, {"device": "cuda:99"}, "", "the device 'cuda:99' cannot be used here"),
        (scratch, {"encoder": "unnet"}, "", "unnet"),
        (anchored, {}, "clicks.safetensors", "clicks.safetensors: there is no such model file"),
        (anchored, {"encoder": "resnet18"}, "", "source holds encoder unet, you asked for resnet18"),
        (warm, {}, "run", "there is no such"),
    ],
)
def test_what_the_training_refuses_is_refused(
    kind: Any, options: dict[str, Any], missing: str, said: str, place: Path
) -> None:
    if missing:
        path = place / missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    job = kind(place, **options)
    found = refusal(Estimate(of=job).run())
    assert said in found and found == refusal(job.run())


def test_a_place_that_is_taken_is_refused(place: Path) -> None:
    for job in (scratch(place, out=place / "run"), clicks(place, out=place / "clicks.safetensors")):
        assert "--overwrite" in refusal(Estimate(of=job).run()) == refusal(job.run())
    assert estimate(scratch(place, out=place / "run", overwrite=True)).reason == "done"


def test_an_estimate_crosses_to_another_process(place: Path) -> None:
    job = Estimate(of=frozen(place))
    assert pickle.loads(pickle.dumps(job)) == job
