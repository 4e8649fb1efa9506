"""Failures in words, the recipe of a source, and how a training is followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from napari_tlseg.engine.jobs import Demo, Job, Predict
from napari_tlseg.engine.running import Outcome, follow, gather, guarded, read_samples
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Evaluated, Event, Stepped, Visited
from tiny import write_eyes


def failing(error: BaseException) -> Iterator[Event]:
    yield Visited(case="a")
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "the memory of the GPU is full; help"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the memory of the GPU is full; help"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "the computer's memory is full; help"),
        (MemoryError(), "the computer's memory is full; help"),
    ],
)
def test_a_full_memory_is_said(error: Exception, said: str) -> None:
    with pytest.raises(InputError, match=said):
        list(guarded(failing(error), "help"))


def test_a_defect_passes_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        list(guarded(failing(RuntimeError("shapes do not match")), "help"))


def test_the_remedy_names_only_flags_that_the_job_has() -> None:
    jobs: list[type[Job]] = [Demo, Pretrain, Finetune, Predict]
    for job in jobs:
        flags = {word.strip(",") for word in job.relief.split() if word.startswith("--")}
        assert flags and {flag[2:] for flag in flags} <= set(job.__dataclass_fields__)


def job(data: Path, **options: object) -> Finetune:
    return Finetune(data=data, out=data / "run", size=32, device="cpu", **options)  # type: ignore[arg-type]


def test_the_recipe_is_the_one_of_the_source(tmp_path: Path) -> None:
    eyes = write_eyes(tmp_path / "eyes")
    material = gather(job(eyes), eyes, "mask", "fundus")
    assert material.recipe.name == "fundus"
    (why,) = (note for note in material.notes if note.startswith("Recipe"))
    assert "as the source was trained with it (the images alone would have got plain)" in why
    assert "alone" not in gather(job(eyes), eyes, "mask", "plain").notes[-1]
    assert gather(job(eyes), eyes, "mask").recipe.name == "plain"
    asked = gather(job(eyes, recipe="plain"), eyes, "mask", "fundus")
    assert asked.recipe.name == "plain" and not [note for note in asked.notes if note.startswith("Recipe")]


@pytest.mark.parametrize("keep", [True, False])
def test_held_out_planes_are_kept_only_where_asked_for(keep: bool, tmp_path: Path) -> None:
    eyes = write_eyes(tmp_path / "eyes")
    material = gather(job(eyes), eyes, "mask")
    events = read_samples(material, "mask", Control(), keep_held_out=keep)
    count = 0
    while True:
        try:
            count += isinstance(next(events), Visited)
        except StopIteration as end:
            samples = end.value
            break
    assert count == len(samples.fingerprints) == 8
    assert len(samples.held_out) == (len(material.parts.held_out) if keep else 0)
    assert samples.seen == {
        samples.fingerprints[case.name] for case in (*material.parts.training, *material.parts.validation)
    }


def test_scores_of_an_earlier_strength_do_not_stay() -> None:
    def training() -> Iterator[Event]:
        yield Stepped(step=1, loss=1.0, strength=0.0)
        yield Evaluated(step=1, scores={"dice": 0.9}, kept=True)
        yield Stepped(step=2, loss=1.0, strength=1.0)

    kept: list[float | None] = []
    events = follow(training(), 2, Control(), lambda outcome: kept.append(outcome.scores["dice"]))  # type: ignore[arg-type]
    outcome = Outcome()
    while True:
        try:
            next(events)
        except StopIteration as end:
            outcome = end.value
            break
    assert kept == [0.9]
    assert (outcome.strengths, outcome.scores) == ([(1, 0.0), (2, 1.0)], {})
