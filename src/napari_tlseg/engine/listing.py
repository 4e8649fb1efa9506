"""The sources in a folder, each with its card."""

from __future__ import annotations

from collections.abc import Iterator

from napari_tlseg.data.card import find_sources, read_source
from napari_tlseg.engine.jobs import Sources
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Noted


def list_sources(job: Sources, control: Control) -> Iterator[Event]:
    """Read the headers; a file that is no source of ours is said, and passed over."""
    if not job.data.is_dir():
        raise InputError("there is no such folder", job.data, "name a folder with sources")
    cards = []
    for path in find_sources(job.data):
        try:
            cards.append(read_source(path))
        except InputError as error:
            yield Noted(text=f"{error}.")
    found = [{"path": card.path, "sha256": card.sha256, "row": card.row, "provenance": card.facts} for card in cards]
    yield Finished(reason="done", out=None, summary={"sources": found})
