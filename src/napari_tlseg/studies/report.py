"""One page on a run or a study: figures, tables, where it comes from, and a paragraph for the methods section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.images import image_of
from napari_tlseg.data.overlay import TN, confusion_map, paint
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.run import is_run, read_json, read_summary
from napari_tlseg.engine.predicting import load_run, load_segmenter, segment
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Reason, Started, Visited
from napari_tlseg.studies.figures import Line, case_grid, efficiency_curve, lambda_curve, line_of, write_figure
from napari_tlseg.studies.jobs import Report
from napari_tlseg.studies.methods import methods
from napari_tlseg.studies.page import PAGE, heading, page, paragraph, picture, table, table_of
from napari_tlseg.studies.path import read_path
from napari_tlseg.studies.recommend import name

SHOWN = 5
"""How many λ a case grid shows."""


def report(job: Report, control: Control) -> Iterator[Event]:
    """Draw the figures of a run folder into `figures/`, and put them with the rest into `report.html`."""
    (run,) = job.runs
    if not is_run(run):
        raise InputError("is no run and no study", run, "name a folder that a training or study has made")
    record, summary, out = read_json(run / "job.json"), read_summary(run), job.out or run
    figures: list[Path] = []
    yield Started(stage="figures", total=2 if "path" in summary else 1)
    for stem, figure in _figures(job, record, summary, control):
        figures.append(write_figure(figure, out / "figures", stem)[0])
        yield Visited(case=stem, path=figures[-1])
        if control.stop:
            break
    written = out / PAGE
    write_text(written, _page(run, record, summary, figures))
    reason: Reason = "stopped" if control.stop else "done"
    yield Finished(reason=reason, out=written, summary={"figures": list(map(str, figures))})


def _figures(
    job: Report, record: Mapping[str, Any], summary: Mapping[str, Any], control: Control
) -> Iterator[tuple[str, Any]]:
    if "efficiency" in summary:
        yield "efficiency", efficiency_curve(summary["efficiency"])
    elif "arms" in summary:
        own = [arm for arm in summary["arms"] if arm["lambda"] is not None]
        scratch = [arm["dice_mean"] for arm in summary["arms"] if arm["lambda"] is None]
        levels = dict(zip(["no source, Dice"], scratch, strict=False))
        yield "lambda", lambda_curve(_lines(own, "dice_se"), levels, "SE over patients")
    elif "path" in summary:
        stages = [{"lambda": stage["strength"], **stage["scores"]} for stage in summary["path"]]
        if any(stage["dice_mean"] is not None for stage in stages):
            yield "lambda", lambda_curve(_lines(stages, "dice_sd"), spread="SD over validation cases")
        yield "cases", case_grid(list(_grid(job, record, summary, control)))


def _lines(rows: Sequence[Mapping[str, Any]], spread: str) -> list[Line]:
    """Dice with its spread, precision without."""
    dice = line_of("Dice", rows, "dice_mean", spread, starred=True)
    return [dice, replace(line_of("precision", rows, "precision_mean"), dashed=True)]


def _grid(
    job: Report, record: Mapping[str, Any], summary: Mapping[str, Any], control: Control
) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The plane with most of the target, then the overlay at some λ, of the cases asked for."""
    dataset = read_dataset(Path(record["data"]), record["masks"])
    stages, between = read_path(job.runs[0])
    strengths = [float(stage["strength"]) for stage in stages]
    shown = [strengths[round(n)] for n in np.linspace(0, len(strengths) - 1, min(SHOWN, len(strengths)))]
    segmenter = load_segmenter(job, load_run(job.runs[0]))
    default = summary["validation"]["cases"] or summary["training"]["cases"]
    for case in _cases(dataset.cases, job.cases or default[:2], job.runs[0]):
        truth = read_mask(case, len(dataset.classes))
        plane = int((truth != 0).sum(axis=(1, 2)).argmax())
        image = image_of(case).picture[plane]
        window = None if image.dtype == np.uint8 else find_recipe(segmenter.provenance.recipe).window
        pictures = [("image", paint(image, np.full(truth.shape[1:], TN, np.uint8), window=window))]
        for λ in shown:
            segmenter.model.load_state_dict(between.at(λ))
            found, _ = segment(segmenter, case, control)
            pictures.append((f"λ = {name(λ)}", paint(image, confusion_map(truth[plane], found[plane]), window=window)))
        yield case.name, pictures


def _cases(cases: Sequence[Case], names: Sequence[str], run: Path) -> list[Case]:
    known = {case.name: case for case in cases}
    if unknown := next((each for each in names if each not in known or known[each].mask is None), None):
        raise InputError(f"case '{unknown}' has no mask in the data of this run", run, "name others with --cases")
    return [known[each] for each in names]


def _page(run: Path, record: Mapping[str, Any], summary: Mapping[str, Any], figures: Sequence[Path]) -> str:
    parts = [paragraph(summary.get("words") or summary.get("recommendation") or ""), *map(picture, figures)]
    parts += _tables(summary)
    model = run / "model.safetensors"
    provenance = load_run(run).provenance if model.exists() else None
    parts += [heading("Methods"), paragraph(methods(record, summary, provenance))]
    plain = {key: value for key, value in record.items() if value not in (None, "", [], False)}
    parts += [heading("Where it comes from"), table(("option", "value"), sorted(plain.items()))]
    if "arms" in summary or "efficiency" in summary:
        parts.append(table(("source", "SHA-256"), sorted(_sources(record, summary))))
    if provenance is not None:
        facts = {"SHA-256 of the source": provenance.source_sha256, **provenance.versions, "made": provenance.created}
        parts.append(table(("", ""), list(facts.items())))
    return page(f"{record['job']} · {run.resolve().name}", parts)


def _sources(record: Mapping[str, Any], summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Of a study, each with its SHA-256; studies of before have none."""
    found = summary.get("source_sha256") or {}
    return list(found.items() if isinstance(found, Mapping) else [(str(record["source"]), found)])


def _tables(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = summary.get("efficiency") or summary.get("arms") or []
    if "path" in summary:
        shown = ("dice_mean", "dice_sd", "precision_mean", "scored")
        rows = [
            {"lambda": s["strength"], "drift": s["drift"], **{k: s["scores"][k] for k in shown}}
            for s in summary["path"]
        ]
    yield table_of(rows)
    if "lambda" in summary:
        keys = ("scored", "dice_mean", "dice_sd", "precision_mean", "recall_mean", "hd95_mean", "hd95_unit")
        parts = {"validation": summary["validation"], "held-out": summary}
        yield table_of([{"part": part} | {key: own[key] for key in keys} for part, own in parts.items()])
