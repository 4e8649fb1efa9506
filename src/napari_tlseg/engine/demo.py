"""The whole journey in one command, to see what λ does."""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from napari_tlseg.data.annotations import mask_path, read_mask
from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.files import write_text
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.phantoms import write_fundus
from napari_tlseg.data.split import Split, assign, choose, read_split
from napari_tlseg.engine.jobs import Demo, Job, Predict
from napari_tlseg.engine.running import Stopped, require_writable
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Reason

PHANTOMS, LABELS, BATCH = 48, 6, 4
DRAWN = "phantoms.txt"
"""Marks a folder that a demo has drawn."""
BETWEEN = 1e-3
ARMS: dict[str, float | None] = {"scratch": None, "plain": 0.0, "between": BETWEEN, "frozen": math.inf}
"""λ of each fine-tuning; None without a source."""


def demo(job: Demo, control: Control) -> Iterator[Event]:
    """Clicks, pretraining, four fine-tunings on the same few masks, and a table of what came of it.

    A stop ends it with the fine-tunings that are through.
    """
    data = job.data or job.out / "data"
    require_writable(job.out)
    if job.data is None:
        _require_ours(data)
        yield Noted(text=f"Drawing {PHANTOMS} phantom fundus photographs with clicks and masks into {data}")
        write_text(data / DRAWN, "Drawn by napari-tlseg demo, which will draw it anew.\n")
        write_fundus(data, PHANTOMS, seed=job.seed)
    dataset = read_dataset(data, unreadable=job.unreadable)
    labels = _count_labels(dataset, job.seed)
    rows: list[dict[str, Any]] = []
    reason: Reason = "done"
    try:
        yield from _journey(job, dataset, labels, rows, control)
    except Stopped:
        reason = "stopped"
    summary = {"rows": rows, "next": _next(job.out, dataset.cases[0], rows) if rows else []}
    yield Finished(reason=reason, out=job.out if job.out.exists() else None, summary=summary)


def _require_ours(data: Path) -> None:
    """Phantoms may not be mixed with the user's own images, nor replace their clicks."""
    if data.exists() and not (data / DRAWN).exists():
        raise InputError("was not drawn by a demo", data, f"add --data {quote(str(data))} or choose another --out")


def _count_labels(dataset: Dataset, seed: int) -> int:
    """How many masks each fine-tuning may see; InputError now, not after pretraining, where they cannot be used."""
    if not dataset.clicked or not dataset.labelled:
        remedy = "click targets, and paint two masks or more"
        raise InputError("needs clicks and masks for the demo", dataset.folder, remedy)
    parts = assign(dataset, seed, known=read_split(dataset.folder))
    labels = min(LABELS, sum(parts[case.name] != "held-out" for case in dataset.labelled))
    choose(dataset, Split(parts=parts), labels)
    for case in dataset.labelled:
        read_mask(case, len(dataset.classes))
    return labels


def _journey(
    job: Demo, dataset: Dataset, labels: int, rows: list[dict[str, Any]], control: Control
) -> Generator[Event, None, None]:
    """Pretrain, then fine-tune and predict at each λ; a row each into `rows`."""
    data = dataset.folder
    shared: dict[str, Any] = {"seed": job.seed, "device": job.device, "precision": job.precision, "overwrite": True}
    shared["unreadable"] = job.unreadable
    training = {**shared, "size": job.size}
    source = job.out / "clicks.safetensors"
    yield Noted(text=f"Pretraining an encoder on {len(dataset.clicked)} clicks")
    yield from _until_finished(Pretrain(data=(data,), out=source, steps=job.pretrain_steps, **training), control)
    for name, strength in ARMS.items():
        run = job.out / "runs" / name
        yield Noted(text=f"Fine-tuning: {_words(strength)}")
        finetune = Finetune(
            data=data,
            source="none" if strength is None else source,
            strength=strength or 0.0,
            labels=labels,
            steps=job.steps,
            batch=BATCH,
            out=run,
            **training,
        )
        finished = yield from _until_finished(finetune, control)
        yield from _until_finished(Predict(data=(data,), model=run, out=run / "masks", **shared), control)
        rows.append(_row(name, strength, finished.summary))


def _until_finished(job: Job, control: Control) -> Generator[Event, None, Finished]:
    """The events of one stage but the last, which is returned; Stopped where it did not come to its end."""
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


def _next(out: Path, case: Case, rows: list[dict[str, Any]]) -> list[str]:
    done = [row["run"] for row in rows]
    mask = mask_path(case, out / "runs" / ("between" if "between" in done else done[-1]) / "masks")
    show = f"{quote(sys.executable)} -m napari_tlseg.gui.show"
    return [
        f"Scores are of held-out cases. Masks, overlays and models are in {out / 'runs'}",
        f"To see an image and its mask in napari:  {show} {quote(str(case.image))} {quote(str(mask))}",
    ]
