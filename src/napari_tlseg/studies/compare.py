"""Several studies of the same data on one page: a line per source, studies that differ in their seed put together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from napari_tlseg.data.files import write_text
from napari_tlseg.data.run import is_run, read_json, read_summary
from napari_tlseg.data.tables import Row, read_rows
from napari_tlseg.engine.running import require_writable
from napari_tlseg.errors import InputError
from napari_tlseg.events import Event, Finished, Started, Visited
from napari_tlseg.studies import crossval, efficiency
from napari_tlseg.studies.figures import efficiency_curve, line_of, source_curves, write_figure
from napari_tlseg.studies.jobs import Report
from napari_tlseg.studies.methods import methods
from napari_tlseg.studies.page import PAGE, heading, page, paragraph, picture, table, table_of
from napari_tlseg.studies.study import SCORES

HEADERS = {"crossval": crossval.HEADER, "efficiency": efficiency.HEADER}
"""Of the tables of the studies that can be put together."""
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """One that lies in a folder: its job.json and the rows of its scores."""

    path: Path
    record: Record
    rows: Sequence[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Study:
        """InputError where there is none, or it is not at its end."""
        record = read_json(path / "job.json") if is_run(path) else {}
        header = HEADERS.get(record.get("job", ""))
        if header is None:
            remedy = "of several folders each has to be one of crossval, or each one of efficiency"
            raise InputError("is no study of λ or of label efficiency", path, remedy)
        summary = read_summary(path)
        if summary["trials"] < summary["of"]:
            far = f"{summary['trials']} of {summary['of']} trainings are through"
            raise InputError(f"is not at its end: {far}", path, "let it go on first, with the same command")
        return cls(path, record, [_parsed(row) for row in read_rows(path / SCORES, header)])

    def options(self, *but: str) -> Record:
        return {key: value for key, value in self.record.items() if key not in ("seed", *but)}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What there is to say of several studies."""

    stem: str
    figure: Figure
    words: Sequence[str]
    tables: Sequence[Sequence[Record]]
    summary: Record
    """That of a single study with their rows."""


def compare(job: Report) -> Iterator[Event]:
    """Their figure and their page, in a folder of its own."""
    assert job.out is not None
    studies = [Study.read(path) for path in job.runs]
    _require_alike(studies)
    require_writable(job.out)
    yield Started(stage="figures", total=1)
    drawn = (_of_sources if studies[0].record["job"] == "crossval" else _of_masks)(studies)
    figure, _ = write_figure(drawn.figure, job.out / "figures", drawn.stem)
    yield Visited(case=drawn.stem, path=figure)
    written = job.out / PAGE
    write_text(written, _page(job.out, studies, drawn, figure))
    yield Finished(reason="done", out=written, summary={"figures": [str(figure)]})


def grouped(studies: Sequence[Study]) -> dict[str, list[Study]]:
    """Label → studies that differ in their seed alone; the label is the source, with the folder where two are alike."""
    groups: dict[str, list[Study]] = {}
    for study in studies:
        groups.setdefault(json.dumps(study.options(), sort_keys=True), []).append(study)
    sources = [Path(alike[0].record["source"]).stem for alike in groups.values()]
    often = Counter(sources)
    labels = [
        source if often[source] == 1 else f"{source} ({alike[0].path.name})"
        for source, alike in zip(sources, groups.values(), strict=True)
    ]
    return dict(zip(labels, groups.values(), strict=True))


def _of_sources(studies: Sequence[Study]) -> Drawn:
    """λ curves. A patient's score is the mean over its cases and over the seeds."""
    groups = {label: _rows(alike) for label, alike in grouped(studies).items()}
    arms = {label: crossval.arms_of(rows) for label, rows in groups.items()}
    found = {label: crossval.recommended(rows) for label, rows in groups.items()}
    own = {label: [arm for arm in each if arm["lambda"] is not None] for label, each in arms.items()}
    dice = [line_of(label, rows, "dice_mean", "dice_se", starred=True) for label, rows in own.items()]
    precision = [line_of(label, rows, "precision_mean") for label, rows in own.items()]
    return Drawn(
        stem="lambda",
        figure=source_curves(dice, precision, _levels(arms), "SE over patients"),
        words=[f"{label}: {each['words']}" for label, each in found.items()],
        tables=[
            [{"source": label, **{k: v for k, v in each.items() if k != "words"}} for label, each in found.items()],
            [{"source": label, **arm} for label, each in arms.items() for arm in each],
        ],
        summary={"arms": []},
    )


def _of_masks(studies: Sequence[Study]) -> Drawn:
    """Efficiency curves."""
    for study in studies:
        if study.options("sources") != studies[0].options("sources"):
            reason = f"was made with other options than {studies[0].path}"
            raise InputError(reason, study.path, "put together what differs in seed and sources alone")
    rows = _rows(studies)
    found = efficiency.summarize_rows(rows)
    words = efficiency.what_more_brings(rows)
    return Drawn(
        stem="efficiency",
        figure=efficiency_curve(found),
        words=[words],
        tables=[found],
        summary={"efficiency": found},
    )


def _levels(arms: Mapping[str, Sequence[Record]]) -> dict[str, float]:
    """Dice without a source, once where it is the same in all."""
    own = {label: arm["dice_mean"] for label, each in arms.items() for arm in each if arm["lambda"] is None}
    if len(set(own.values())) == 1:
        return {"no source": next(iter(own.values()))}
    return {f"no source, beside {label}": dice for label, dice in own.items()}


def _require_alike(studies: Sequence[Study]) -> None:
    for study in studies:
        if any(study.record[key] != studies[0].record[key] for key in ("job", "data", "masks")):
            raise InputError(
                f"is not of the same kind and data as {studies[0].path}", study.path, "compare like studies"
            )


def _rows(studies: Sequence[Study]) -> list[dict[str, Any]]:
    return [row for study in studies for row in study.rows]


def _parsed(row: Row) -> dict[str, Any]:
    try:
        return {column: PARSED.get(column, str)(cell) for column, cell in row.cells.items()}
    except ValueError:
        raise row.error("is damaged", "let the study write it anew, with the same command") from None


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


PARSED: dict[str, Callable[[str], Any]] = {"fold": int, "masks": int, "chosen": "True".__eq__}
PARSED |= dict.fromkeys(("lambda", "dice", "precision", "drift"), _number)


def _page(out: Path, studies: Sequence[Study], drawn: Drawn, figure: Path) -> str:
    first, seeds = studies[0].record, dict.fromkeys(str(study.record["seed"]) for study in studies)
    parts = [*map(paragraph, drawn.words), picture(figure), *map(table_of, drawn.tables)]
    parts += [heading("Methods"), paragraph(methods({**first, "seed": ", ".join(seeds)}, drawn.summary, None))]
    parts.append(heading("Where it comes from"))
    same = {key: value for key, value in first.items() if all(study.record[key] == value for study in studies)}
    differ = [key for key in first if key not in same]
    parts.append(table(("study", *differ), [(study.path, *(study.record[key] for key in differ)) for study in studies]))
    plain = {key: value for key, value in same.items() if value not in (None, "", [], False)}
    parts.append(table(("option", "value"), sorted(plain.items())))
    return page(f"{first['job']} · {out.resolve().name}", parts)
