"""The job of a noisy student, as those of `engine.jobs`: importing this imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from tyro.conf import Suppress, arg

from napari_tlseg.engine.jobs import OptionalInt, require
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event
from napari_tlseg.options import Origin

PLACES = ("data", "unlabelled", "source", "teacher", "focus", "out")
"""Options of a student that are files or folders."""


@dataclass(frozen=True, kw_only=True)
class Student(Finetune):
    """Learn from images without masks too: a teacher labels them, a student learns these labels beside the masks,
    under noise, and is the next teacher (Xie et al.).

    The run folder holds every round, and as its own model the last student. The labels lie there to be looked at,
    accepted or rejected, before the same command with more --rounds goes on.
    """

    unlabelled: Path
    """Folder of images without masks; that of the data itself stands for those of its images that have none."""
    teacher: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """The run that labels them first; by default one is trained, as finetune would."""
    rounds: int = 1
    """How many students, one after the other; 0 for the teacher's labels alone, to be looked at first."""
    threshold: float = 0.9
    """Pixels of whose label a teacher is less sure are not learned."""
    unlabelled_batch: OptionalInt = None
    """Images without masks per step, beside the others; by default as many, but less where those would come round less
    often."""
    unlabelled_weight: float = 1.0
    """What their loss counts, where that of the others counts 1."""
    dropout: float = 0.3
    """Share of the encoder's deepest channels that a student goes without, others in every step."""
    start: Annotated[Path | None, Suppress] = None
    focus: Annotated[Literal["none"] | Path, Suppress] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None or self.focus != "none":
            raise InputError("a student starts at the source and sees whole images", remedy="take a run that does")
        batch, weight = self.unlabelled_batch, self.unlabelled_weight
        require(self.rounds >= 0, "--rounds", self.rounds, "0 or more")
        require(0 <= self.threshold < 1, "--threshold", self.threshold, "a probability from 0 to below 1")
        require(batch is None or batch >= 1, "--unlabelled-batch", batch, "at least 1")
        require(0 < weight < math.inf, "--unlabelled-weight", weight, "more than 0")
        require(0 <= self.dropout < 1, "--dropout", self.dropout, "a share from 0 to below 1")

    @classmethod
    def recalled(cls, record: Mapping[str, Any], **changes: Any) -> Self:
        """As the job.json of a fine-tuning or a student says, but for some changes; what is no option is left out."""
        known = {field.name: record[field.name] for field in fields(cls) if field.init and field.name in record}
        named = known | changes
        places = {name: Path(named[name]) for name in PLACES if named.get(name) not in (None, *get_args(Origin))}
        numbers = {"strength": float(named["strength"]), "stage_weights": tuple(named.get("stage_weights", ()))}
        return cls(**named | places | numbers)

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.student import student

        return student(self, control)
