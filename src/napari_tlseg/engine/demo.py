"""The whole journey in one command, to see what λ does."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.phantoms import write_fundus
from napari_tlseg.engine.jobs import Demo, Finetune, Job, Predict, Pretrain
from napari_tlseg.engine.running import Stopped
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Started

PHANTOMS, LABELS = 48, 6
BETWEEN = 1e-3
ARMS: dict[str, float | None] = {"scratch": None, "plain": 0.0, "between": BETWEEN, "frozen": math.inf}
"""λ of each fine-tuning; None without a source."""


def demo(job: Demo, control: Control) -> Iterator[Event]:
    """Clicks, pretraining, four fine-tunings on the same few masks, and a table of what came of it."""
    data = job.data or job.out / "data"
    if job.data is None:
        yield Started(stage="draw", total=PHANTOMS)
        write_fundus(data, PHANTOMS, seed=job.seed)
        yield Noted(text=f"{PHANTOMS} phantom fundus photographs with clicks and masks are in {data}")
    dataset = read_dataset(data)
    if not dataset.clicked or not dataset.labelled:
        raise InputError("needs clicks and masks for the demo", data, "click targets, and paint two masks or more")
    shared: dict[str, Any] = {"seed": job.seed, "device": job.device, "precision": job.precision, "overwrite": True}
    source = job.out / "clicks.safetensors"
    yield Noted(text=f"Pretraining an encoder on {len(dataset.clicked)} clicks")
    yield from _until_finished(Pretrain(data=data, out=source, steps=job.pretrain_steps, **shared), control)
    rows = []
    for name, strength in ARMS.items():
        run = job.out / "runs" / name
        yield Noted(text=f"Fine-tuning: {_words(strength)}")
        finetune = Finetune(
            data=data,
            source="none" if strength is None else source,
            strength=strength or 0.0,
            labels=min(LABELS, len(dataset.labelled)),
            steps=job.steps,
            out=run,
            **shared,
        )
        finished = yield from _until_finished(finetune, control)
        yield from _until_finished(Predict(data=(data,), model=run, out=run / "masks", **shared), control)
        rows.append(_row(name, strength, finished.summary))
    yield Finished(reason="done", out=job.out, summary={"rows": rows, "next": _next(job.out, dataset.cases[0].image)})


def _until_finished(job: Job, control: Control) -> Generator[Event, None, Finished]:
    """The events of one stage but the last, which is returned; a stop ends the whole demo."""
    for event in job.run(control):
        if isinstance(event, Finished):
            if control.stop:
                raise Stopped
            return event
        yield event
    raise RuntimeError(f"{type(job).__name__} ended without saying so")


def _words(strength: float | None) -> str:
    if strength is None:
        return "from scratch, without the clicks"
    if strength == 0:
        return "from the clicks, λ = 0 (nothing holds the encoder)"
    if math.isinf(strength):
        return "from the clicks, λ = ∞ (the encoder is frozen)"
    return f"from the clicks, λ = {strength:g}"


def _row(name: str, strength: float | None, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": name,
        "λ": "no source" if strength is None else strength,
        "drift": summary["drift"],
        "Dice": summary["dice_mean"],
        "± SD": summary["dice_sd"],
        "precision": summary["precision_mean"],
        "cases": summary["scored"],
        "seconds": summary["seconds"],
    }


def _next(out: Path, image: Path) -> list[str]:
    mask = out / "runs" / "between" / "masks" / f"{image.stem}.png"
    return [
        f"Scores are of held-out cases. Masks, overlays and models are in {out / 'runs'}",
        f"To see an image and its mask in napari:  napari {image} {mask}",
    ]
