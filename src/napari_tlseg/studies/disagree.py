"""Where the models of a path disagree, case by case: a map, a number, and which mask to draw next."""

from __future__ import annotations

from collections.abc import Iterator

from napari_tlseg.data.case import Case, Dataset
from napari_tlseg.data.disagreement import Disagreements, Votes, most_first, next_mask
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.engine.predicting import load_run, load_segmenter, segment
from napari_tlseg.engine.running import Stopped, noted, require_writable
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Started, Visited
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.studies.jobs import Disagree
from napari_tlseg.studies.path import read_path
from napari_tlseg.studies.weights import Between


def disagree(job: Disagree, control: Control) -> Iterator[Event]:
    """The cases that are not in the table yet, each kept at once: a job that was ended goes on where it was."""
    _, between = read_path(job.model)
    if len(between.weights) < 2:
        raise InputError("holds one λ only, there is none to disagree with", job.model, "let the path run to its end")
    dataset, kept = read_dataset(job.data, unreadable=job.unreadable), Disagreements(job.model)
    cases, found = _chosen(job, dataset), kept.read()
    missing = [case for case in cases if job.overwrite or case.name not in found or not kept.map_of(case).exists()]
    segmenter = load_segmenter(job, load_run(job.model))
    require_writable(kept.folder)
    yield from noted(dataset.left_out.values())
    yield Started(stage="disagree", total=len(missing))
    for case in missing:
        try:
            votes = _vote(segmenter, between, case, control)
        except Stopped:
            break
        path = kept.write_map(case, votes)
        found[case.name] = votes.disagreement
        kept.write(found, {case.name for case in dataset.labelled})
        yield Visited(case=case.name, path=path)
    whole = all(case.name in found for case in cases)
    summary = {"disagreement": {name: found[name] for name in most_first(found)}, "next": next_mask(dataset, found)}
    yield Finished(reason="done" if whole else "stopped", out=kept.table, summary=summary)


def _vote(segmenter: Segmenter, between: Between, case: Case, control: Control) -> Votes:
    """Of every λ that was trained; none of them counts more, as they are spaced evenly by how far the encoder goes."""
    votes = Votes(len(segmenter.provenance.classes))
    for weights in between.weights.values():
        segmenter.model.load_state_dict(weights)
        votes.add(segment(segmenter, case, control)[0])
    return votes


def _chosen(job: Disagree, dataset: Dataset) -> list[Case]:
    names = {case.name for case in dataset}
    if unknown := next((name for name in job.cases if name not in names), None):
        raise InputError(
            f"there is no case '{unknown}'", job.data, f"its cases have names like '{dataset.cases[0].name}'"
        )
    return [case for case in dataset if not job.cases or case.name in job.cases]
