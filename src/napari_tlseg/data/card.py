"""The card of a source: what it learned from, how, and how well; read from its header, without the weights or torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_tlseg.errors import InputError

DEEP = ("*", "*/*", "*/*/*")
"""Where sources are looked for: sources/clicks.safetensors, runs/a/model.safetensors, or the folder itself."""
LARGEST = 100_000_000
"""Bytes of a header, as safetensors allows."""
LEARNED = {"localize": "clicks", "segment": "masks", "hydra": "masks of several datasets", "classify": "labels"}
"""From what, by the task."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Of a file written by pretrain, or of a run's model. The weights are checked when they are used, not here."""

    path: Path
    sha256: str
    """Of the weights, as the file says."""
    facts: Mapping[str, Any] = field(repr=False)
    """Its provenance; see docs/files.md."""

    @property
    def name(self) -> str:
        """Of the file, of a run that of its folder."""
        return self.path.resolve().parent.name if self.path.name == "model.safetensors" else self.path.name

    @property
    def learned(self) -> str:
        """clicks, masks …"""
        task = str(self.facts["task"])
        return LEARNED.get(task, task)

    @property
    def began(self) -> str:
        """What its own encoder began with, and how much of it was taken."""
        init, taken = self.facts.get("init", "?"), self.facts.get("transfer", "full")
        which = f" {str(self.facts.get('source_sha256'))[:12]}" if init == "source" else ""
        return f"{init}{which}{'' if taken == 'full' else f' ({taken})'}"

    @property
    def validation(self) -> str:
        """How good it was on its own validation cases; empty where nobody knows."""
        scores = self.facts.get("scores", {})
        if (dice := scores.get("dice")) is not None:
            return f"Dice {dice:.3f}"
        if (auc := scores.get("auc")) is not None:
            return f"AUC {auc:.3f}"
        return "" if (error := scores.get("error")) is None else f"{error:.1f} px off"

    @property
    def row(self) -> dict[str, object]:
        """A line of the table of sources."""
        facts = self.facts
        return {
            "source": self.name,
            "learned from": self.learned,
            "of": facts.get("trained_on", ""),
            "cases": len(facts.get("seen", ())),
            "began with": self.began,
            "encoder": facts["encoder"],
            "size": facts["size"],
            "steps": facts.get("steps"),
            "validation": self.validation or None,
            "SHA-256": self.sha256[:12],
        }

    @property
    def short(self) -> str:
        """The card in one line."""
        cases = len(self.facts.get("seen", ()))
        judged = f"; validation: {self.validation}" if self.validation else ""
        return f"Learned from {self.learned} of {self.facts.get('trained_on') or '?'}, {cases} cases{judged}."

    def lines(self) -> Iterator[str]:
        """The card in words."""
        facts, cases = self.facts, len(self.facts.get("seen", ()))
        yield f"Learned from {self.learned} of {facts.get('trained_on') or '?'}, {cases} cases seen."
        yield f"Encoder {facts['encoder']}, begun with {self.began}; {facts.get('steps', '?')} steps."
        yield f"Recipe {facts['recipe']}, images of {facts['size']} pixels."
        yield f"On its own validation cases: {self.validation or 'not judged'}."
        yield f"SHA-256 {self.sha256[:12]}…, made {str(facts.get('created', '?'))[:10]}."


def read_source(path: Path) -> Card:
    """The card of a file. InputError where it is damaged, or does not say where its weights come from."""
    remedy = "give a source or model written by napari-tlseg"
    try:
        metadata = _header(path)["__metadata__"]
        facts, sha256 = json.loads(metadata["provenance"]), str(metadata["sha256"])
        if not {"task", "encoder", "recipe", "size"} <= facts.keys():
            raise ValueError("its provenance is incomplete")
    except OSError as error:
        raise InputError((error.strerror or str(error)).lower(), path, remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("does not say where its weights come from", path, remedy) from error
    return Card(path=path, sha256=sha256, facts=facts)


def find_sources(folder: Path) -> Iterator[Path]:
    """Files that may be sources, in a folder and two levels below; what is hidden is passed over."""
    for pattern in DEEP:
        for path in sorted(folder.glob(f"{pattern}.safetensors")):
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                yield path


def _header(path: Path) -> Any:
    """The JSON that begins a safetensors file, after its length in 8 bytes."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LARGEST:
            raise ValueError(f"a header of {length} bytes")
        return json.loads(file.read(length))
