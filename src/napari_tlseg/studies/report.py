"""One page on a run or a study: figures, tables, where it comes from, and a paragraph for the methods section."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.files import write_text
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.overlay import TN, confusion_map, paint
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.run import is_run, read_json, read_summary
from napari_tlseg.engine.predicting import load_run, load_segmenter, segment
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Started, Visited
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.studies.figures import Line, case_grid, efficiency_curve, lambda_curve, write_figure
from napari_tlseg.studies.jobs import Report
from napari_tlseg.studies.path import read_path
from napari_tlseg.studies.recommend import name

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Its header and its rows."""
SHOWN = 5
"""How many λ a case grid shows."""


def report(job: Report, control: Control) -> Iterator[Event]:
    """Draw the figures of a run folder into `figures/`, and put them with the rest into `report.html`."""
    if not is_run(job.run_folder):
        raise InputError("is no run and no study", job.run_folder, "name a folder that a training or study has made")
    record, summary = read_json(job.run_folder / "job.json"), read_summary(job.run_folder)
    figures: list[Path] = []
    yield Started(stage="figures", total=2 if "path" in summary else 1)
    for stem, figure in _figures(job, record, summary, control):
        figures.append(write_figure(figure, job.run_folder / "figures", stem)[0])
        yield Visited(case=stem, path=figures[-1])
        if control.stop:
            break
    page = job.run_folder / "report.html"
    write_text(page, _page(job.run_folder, record, summary, figures))
    yield Finished(reason="stopped" if control.stop else "done", out=page, summary={"figures": list(map(str, figures))})


def _figures(
    job: Report, record: Mapping[str, Any], summary: Mapping[str, Any], control: Control
) -> Iterator[tuple[str, Any]]:
    if "efficiency" in summary:
        yield "efficiency", efficiency_curve(summary["efficiency"])
    elif "arms" in summary:
        own = [arm for arm in summary["arms"] if arm["lambda"] is not None]
        scratch = [arm["dice_mean"] for arm in summary["arms"] if arm["lambda"] is None]
        levels = dict(zip(["no source, Dice"], scratch, strict=False))
        yield "lambda", lambda_curve(_lines(own, "lambda", "dice_se"), levels, "SE over patients")
    elif "path" in summary:
        stages = [{"lambda": stage["strength"], **stage["scores"]} for stage in summary["path"]]
        if any(stage["dice_mean"] is not None for stage in stages):
            yield "lambda", lambda_curve(_lines(stages, "lambda", "dice_sd"), spread="SD over validation cases")
        yield "cases", case_grid(list(_grid(job, record, summary, control)))


def _lines(rows: Sequence[Mapping[str, Any]], key: str, spread: str) -> list[Line]:
    """Dice with its spread, precision without."""
    measures = (("Dice", "dice_mean", spread, False), ("precision", "precision_mean", None, True))
    return [
        Line(
            label=label,
            points={float(r[key]): (r[mean], r[error] if error else None) for r in rows if r[mean] is not None},
            dashed=dashed,
        )
        for label, mean, error, dashed in measures
    ]


def _grid(
    job: Report, record: Mapping[str, Any], summary: Mapping[str, Any], control: Control
) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The plane with most of the target, then the overlay at some λ, of the cases asked for."""
    dataset = read_dataset(Path(record["data"]), record["masks"])
    stages, between = read_path(job.run_folder)
    strengths = [float(stage["strength"]) for stage in stages]
    shown = [strengths[round(n)] for n in np.linspace(0, len(strengths) - 1, min(SHOWN, len(strengths)))]
    segmenter = load_segmenter(job, load_run(job.run_folder))
    default = summary["validation"]["cases"] or summary["training"]["cases"]
    for case in _cases(dataset.cases, job.cases or default[:2], job.run_folder):
        truth = read_mask(case, len(dataset.classes))
        plane = int((truth != 0).sum(axis=(1, 2)).argmax())
        image = read_image(case.image, case.page).planes[plane]
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
    title = f"{record['job']} · {run.resolve().name}"
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(str(_words(summary)))}</p>"]
    parts += [f'<img alt="{each.stem}" src="data:image/png;base64,{_inline(each)}">' for each in figures]
    parts += [_table(*table) for table in _tables(summary)]
    model = run / "model.safetensors"
    provenance = load_run(run).provenance if model.exists() else None
    parts += ["<h2>Methods</h2>", f"<p>{escape(methods(record, summary, provenance))}</p>"]
    parts += ["<h2>Where it comes from</h2>", _table(("option", "value"), sorted(_plain(record).items()))]
    if provenance is not None:
        facts = {"SHA-256 of the source": provenance.source_sha256, **provenance.versions, "made": provenance.created}
        parts.append(_table(("", ""), list(facts.items())))
    parts.append("<p>For research, not for diagnosis or treatment.</p>")
    return HTML.format(title=escape(title), body="\n".join(parts))


def methods(record: Mapping[str, Any], summary: Mapping[str, Any], provenance: Provenance | None) -> str:
    """What a paper would say of it."""
    source, steps, batch = record.get("source", "none"), record["steps"], record["batch"]
    network = f"A U-Net with encoder {provenance.encoder}" if provenance else "A U-Net"
    size = f" on {provenance.size}² images (recipe {provenance.recipe})" if provenance else ""
    said = [f"{network} was trained{size} for {steps} steps of {batch} with Adam (learning rate"]
    said[0] += f" {record['learning_rate']:g}, seed {record['seed']})."
    if source != "none" or len(record.get("sources", ())) > 1:
        solver = "a proximal step in Adam's metric" if record["solver"] == "stable" else "its gradient, as published"
        said.append(
            "The encoder started from pretrained weights θ̄ and was held to them by the penalty λ Σ (θ − θ̄)² "
            f"(Sagie et al.), minimised by {solver}; at λ = ∞ it was frozen (Hu et al.)."
        )
    if "arms" in summary or "efficiency" in summary:
        said.append(f"Scores are of {record['folds']}-fold cross-validation by patient; the last weights were scored.")
    if "arms" in summary:
        said.append("λ was chosen by the one-standard-error rule on paired differences, towards the larger λ.")
    if "efficiency" in summary:
        said.append("λ of each fold was chosen on the other folds; p is of Wilcoxon's signed-rank test over patients.")
    if "lambda" in summary:
        said.append(
            f"λ was {name(float(summary['lambda']))}. {len(summary['training']['cases'])} cases were trained on, "
            f"{len(summary['validation']['cases'])} picked the weights, {summary['scored']} held-out ones were scored."
        )
    return " ".join([*said, "Dice is the mean over cases, on the native grid."])


def _words(summary: Mapping[str, Any]) -> str:
    return summary.get("words") or summary.get("recommendation") or ""


def _tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    rows = summary.get("efficiency") or summary.get("arms")
    if "path" in summary:
        shown = ("dice_mean", "dice_sd", "precision_mean", "scored")
        rows = [
            {"lambda": s["strength"], "drift": s["drift"], **{k: s["scores"][k] for k in shown}}
            for s in summary["path"]
        ]
    if rows:
        yield list(rows[0]), [list(row.values()) for row in rows]
    if "lambda" in summary:
        keys = ("scored", "dice_mean", "dice_sd", "precision_mean", "recall_mean", "hd95_mean", "hd95_unit")
        yield (
            ("part", *keys),
            [
                ("validation", *(summary["validation"][key] for key in keys)),
                ("held-out", *(summary[key] for key in keys)),
            ],
        )


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if value not in (None, "", [], False)}


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [("th", header), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{escape(_cell(cell))}</{tag}>" for cell in line) for tag, line in lines)
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in cells) + "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "∞" if math.isinf(value) else f"{value:.3g}"
    return "–" if value is None else "∞" if value == "inf" else str(value)


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100%; display: block; margin: 1rem 0 }}
table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }}
td, th {{ border-bottom: 1px solid #ddd; padding: .25rem .7rem; text-align: left; vertical-align: top }}
</style></head><body>
{body}
</body></html>
"""
