"""A plane at any λ of a path, as fast as a slider is moved."""

from __future__ import annotations

from collections.abc import Iterator

from napari_tlseg.data.folder import read_dataset
from napari_tlseg.engine.predicting import load_run, load_segmenter, read_for
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Previewed
from napari_tlseg.studies.jobs import Scrub
from napari_tlseg.studies.path import read_path


def scrub(job: Scrub, control: Control) -> Iterator[Event]:
    """Prepare the plane once; then whenever λ is another one: weights, network, labels. Only the newest λ counts."""
    _, between = read_path(job.model)
    segmenter = load_segmenter(job, load_run(job.model))
    dataset = read_dataset(job.data, unreadable=job.unreadable)
    if job.case not in [case.name for case in dataset]:
        raise InputError(f"there is no case '{job.case}'", job.data, "pick another one")
    case = dataset[job.case]
    planes = case.geometry.plane_shape[0]
    if not 0 <= job.plane < planes:
        raise InputError(f"there is no plane {job.plane}", case.image, f"its planes are 0 to {planes - 1}")
    click = case.geometry.point_to_planes(case.click) if case.click else None
    look = segmenter.looking_at(read_for(segmenter, case), job.plane, click)
    shown = None
    while not control.stop:
        strength = job.strength if control.strength is None else control.strength
        if strength == shown:
            control.wait()
            continue
        segmenter.model.load_state_dict(between.at(strength))
        labels, shown = look(), strength
        labels = segmenter.finish([labels], case)[0] if planes == 1 else labels
        yield Previewed(strength=strength, case=case.name, plane=job.plane, labels=labels)
    yield Finished(reason="stopped", out=None)
