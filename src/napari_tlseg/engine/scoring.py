"""How good masks are: those of a model just trained, and those in a folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case, Labels
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.formats import IMAGE_SUFFIXES, read_image
from napari_tlseg.data.overlay import write_overlay
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.run import RunFolder
from napari_tlseg.data.split import Part, read_split
from napari_tlseg.data.tables import write_rows
from napari_tlseg.engine import jobs
from napari_tlseg.engine.predicting import segment
from napari_tlseg.engine.running import Material, Stopped, require_free
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted, Started, Visited
from napari_tlseg.learn.metrics import Score, score_case, summarize
from napari_tlseg.learn.predict import Segmenter


def score_run(
    segmenter: Segmenter, material: Material, seen: frozenset[str], run: RunFolder, control: Control
) -> Generator[Event, None, list[Score]]:
    """Predict and score validation and held-out cases, draw their overlays, write scores.csv.

    A held-out case that the source saw (`seen`, fingerprints) is scored, marked, and left out of the means.
    """
    parts: tuple[tuple[Part, tuple[Case, ...]], ...]
    parts = (("validation", material.parts.validation), ("held-out", material.parts.held_out))
    scores: list[Score] = []
    yield Started(stage="score", total=sum(len(cases) for _, cases in parts))
    for part, cases in parts:
        for case in cases:
            if control.stop:
                return scores
            known = part == "held-out" and bool(seen) and fingerprint(case) in seen
            if known:
                yield Noted(text=f"The source was trained on {case.name}: its score is marked and not in the mean.")
            try:
                overlay, found = _look(segmenter, case, material.dataset.classes, part, known, run, control)
            except Stopped:
                return scores
            scores += found
            run.write_scores([_row(score) for score in scores])
            yield Visited(case=case.name, path=overlay)
    return scores


def _look(
    segmenter: Segmenter, case: Case, classes: tuple[str, ...], part: Part, seen: bool, run: RunFolder, control: Control
) -> tuple[Path, list[Score]]:
    found = segment(segmenter, case, control)
    truth, painted = read_mask(case, len(classes)), list(case.planes)
    overlay = run.overlays / f"{case.name}.png"
    window = find_recipe(segmenter.provenance.recipe).window
    planes = read_image(case.image, case.page).planes
    window = None if planes.dtype == "uint8" else window
    write_overlay(overlay, planes[painted], truth[painted], found[painted], classes=classes, window=window)
    return overlay, _score(case, truth, found, classes, part, seen)


def _score(
    case: Case, truth: Labels, found: Labels, classes: tuple[str, ...], part: str, seen: bool = False
) -> list[Score]:
    """On the planes that are painted: the others have no truth."""
    painted = list(case.planes)
    spacing = case.geometry.plane_spacing
    return score_case(
        truth[painted],
        found[painted],
        spacing=spacing,
        unit=case.geometry.unit,
        classes=classes,
        case=case.name,
        part=part,
        seen=seen,
    )


def score(job: jobs.Score, control: Control) -> Iterator[Event]:
    """Compare a folder of masks with the true ones; a case without a prediction is named, and not scored."""
    if job.out is not None:
        require_free(job.out, overwrite=True)
    if not job.predictions.is_dir():
        raise InputError("there is no such folder", job.predictions, "name the folder that predict wrote")
    dataset = read_dataset(job.data, job.masks)
    if not dataset.labelled:
        raise InputError("has no masks", dataset.folder, "scoring needs true masks")
    pairs = [(case, path) for case in dataset.labelled if (path := _prediction(job.predictions, case)) is not None]
    if not pairs:
        raise InputError("holds no mask for any case", job.predictions, f"masks are named as the images of {job.data}")
    if missing := len(dataset.labelled) - len(pairs):
        yield Noted(text=f"{missing} of {len(dataset.labelled)} cases have no predicted mask and are not scored.")
    yield Started(stage="score", total=len(pairs))
    parts, scores = read_split(dataset.folder), []
    for case, path in pairs:
        classes = dataset.classes
        truth, found = read_mask(case, len(classes)), read_mask(case, len(classes), path)
        scores += _score(case, truth, found, classes, parts.get(case.name, "all"))
        yield Visited(case=case.name)
        if control.stop:
            break
    if job.out is not None:
        rows = [_row(score) for score in scores]
        write_rows(job.out, list(rows[0]), (["" if cell is None else cell for cell in row.values()] for row in rows))
    summary = {part: summarize(scores, part) for part in dict.fromkeys(score.part for score in scores)}
    yield Finished(reason="stopped" if control.stop else "done", out=job.out, summary=summary)


def _prediction(folder: Path, case: Case) -> Path | None:
    found = [folder / f"{case.name}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((path for path in found if path.is_file()), None)


def _row(score: Score) -> dict[str, Any]:
    row = asdict(score)
    return {"case": row.pop("case"), "part": row.pop("part"), "class": row.pop("class_name"), **row}
