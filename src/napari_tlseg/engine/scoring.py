"""How good masks are: those of a model just trained, and those in a folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case, Labels
from napari_tlseg.data.crops import keep_crop
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.formats import IMAGE_SUFFIXES
from napari_tlseg.data.images import image_of
from napari_tlseg.data.overlay import write_overlay
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.run import RunFolder, write_scores
from napari_tlseg.data.split import Part, read_split
from napari_tlseg.engine import jobs
from napari_tlseg.engine.predicting import CARD, keep_mask, load_run, segment
from napari_tlseg.engine.running import Material, Stopped, noted, require_free
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Started, Visited
from napari_tlseg.learn.metrics import Score, score_case, summarize
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.nets.checkpoint import read_card, write_card

SEEN = {
    "validation": "a λ chosen on them leans towards large values",
    "held-out": "their scores are marked and not in the means",
}
"""What it means that a case was trained on before, by its part."""


def score_run(
    segmenter: Segmenter,
    material: Material,
    known: frozenset[str],
    run: RunFolder,
    control: Control,
    by: str = "the source",
) -> Generator[Event, None, list[Score]]:
    """Predict and score validation and held-out cases, keep their masks, draw their overlays, write scores.csv.

    The cases that were seen before (`known`, names), `by` whom, are marked.
    """
    parts: tuple[tuple[Part, tuple[Case, ...]], ...]
    parts = (("validation", material.parts.validation), ("held-out", material.parts.held_out))
    classes, scores, more = material.dataset.classes, list[Score](), list[dict[str, Any]]()
    yield Started(stage="score", total=sum(len(cases) for _, cases in parts))
    for part, cases in parts:
        if count := sum(case.name in known for case in cases):
            yield Noted(text=f"{count} of {len(cases)} {part} cases were seen by {by}: {SEEN[part]}.")
        for case in cases:
            if control.stop:
                return scores
            try:
                found, how = segment(segmenter, case, control)
            except Stopped:
                return scores
            if not scores:
                write_card(run.masks / CARD, load_run(run.model))
            keep_mask(case, found, run.masks, len(classes))
            keep_crop(run.masks, case, how.crop)
            truth = read_mask(case, len(classes))
            overlay = _draw(segmenter, case, truth, found, classes, run)
            own = score_labels(case, truth, found, classes, part, case.name in known)
            scores += own
            more += [{"focus": how.focus, "doubt": how.doubt} if how.focus else {}] * len(own)
            write_score_rows(run.scores, scores, more)
            yield Visited(case=case.name, path=overlay)
    return scores


def summarize_validation(scores: list[Score]) -> dict[str, Any]:
    """As `summarize`, but with the cases that the source saw in the means: clicks and masks are often of the same."""
    fresh = [replace(score, seen=False) for score in scores]
    return {**summarize(fresh, "validation"), "seen": summarize(scores, "validation")["seen"]}


def _draw(
    segmenter: Segmenter, case: Case, truth: Labels, found: Labels, classes: tuple[str, ...], run: RunFolder
) -> Path:
    """The overlay of a case, on its painted planes."""
    overlay, painted = run.overlays / f"{case.name}.png", list(case.planes)
    window = find_recipe(segmenter.provenance.recipe).window
    planes = image_of(case).picture
    window = None if planes.dtype == "uint8" else window
    numbers = [case.geometry.stored_plane(plane) for plane in painted] if len(planes) > 1 else []
    shown = planes[painted], truth[painted], found[painted]
    write_overlay(overlay, *shown, classes=classes, numbers=numbers, window=window)
    return overlay


def score_one(segmenter: Segmenter, case: Case, part: Part, seen: bool = False) -> list[Score]:
    """What a model says of a case, against its mask, on the native grid."""
    classes = segmenter.provenance.classes
    found, _ = segment(segmenter, case, Control())
    return score_labels(case, read_mask(case, len(classes)), found, classes, part, seen)


def score_labels(
    case: Case, truth: Labels, found: Labels, classes: tuple[str, ...], part: str, seen: bool = False
) -> list[Score]:
    """On the planes that are painted: the others have no truth. No distances where there are gaps between them."""
    painted = list(case.planes)
    return score_case(
        truth[painted],
        found[painted],
        spacing=case.geometry.plane_spacing,
        unit=case.geometry.unit,
        classes=classes,
        case=case.name,
        part=part,
        seen=seen,
        distances=painted == list(range(painted[0], painted[-1] + 1)),
    )


def score(job: jobs.Score, control: Control) -> Iterator[Event]:
    """Compare a folder of masks with the true ones; a case without a prediction is named, and not scored."""
    if job.out is not None:
        require_free(job.out, job.overwrite)
    if not job.predictions.is_dir():
        raise InputError("there is no such folder", job.predictions, "name the folder that predict wrote")
    dataset = read_dataset(job.data, job.masks, job.unreadable)
    yield from noted(dataset.left_out.values())
    if not dataset.labelled:
        raise InputError("has no masks", dataset.folder, "scoring needs true masks")
    pairs = [(case, path) for case in dataset.labelled if (path := _prediction(job.predictions, case)) is not None]
    if not pairs:
        raise InputError("holds no mask for any case", job.predictions, f"masks are named as the images of {job.data}")
    if missing := len(dataset.labelled) - len(pairs):
        yield Noted(text=f"{missing} of {len(dataset.labelled)} cases have no predicted mask and are not scored.")
    parts, card = read_split(dataset.folder), read_card(job.predictions / CARD)
    if card is None and "held-out" in parts.values():
        yield Noted(text=f"There is no {CARD} beside the masks: what their model was trained on cannot be marked.")
    yield Started(stage="score", total=len(pairs))
    scores: list[Score] = []
    for case, path in pairs:
        classes = dataset.classes
        truth, found = read_mask(case, len(classes)), read_mask(case, len(classes), path)
        seen = card is not None and fingerprint(case) in card[0].seen
        scores += score_labels(case, truth, found, classes, parts.get(case.name, "all"), seen)
        yield Visited(case=case.name)
        if control.stop:
            break
    if count := len({score.case for score in scores if score.seen}):
        yield Noted(text=f"{count} of {len(pairs)} cases were seen by the model: {SEEN['held-out']}.")
    if job.out is not None:
        write_score_rows(job.out, scores)
    summary = {part: summarize(scores, part) for part in dict.fromkeys(score.part for score in scores)}
    yield Finished(reason="stopped" if control.stop else "done", out=job.out, summary=summary)


def _prediction(folder: Path, case: Case) -> Path | None:
    found = [folder / f"{case.name}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((path for path in found if path.is_file()), None)


def write_score_rows(path: Path, scores: Sequence[Score], more: Sequence[Mapping[str, Any]] = ()) -> None:
    """A row per score, with the columns of `more` before them, one mapping per score."""
    write_scores(
        path, [{**ours, **_row(score)} for score, ours in zip(scores, more or [{}] * len(scores), strict=True)]
    )


def _row(score: Score) -> dict[str, Any]:
    row = asdict(score)
    return {"case": row.pop("case"), "part": row.pop("part"), "class": row.pop("class_name"), **row}
