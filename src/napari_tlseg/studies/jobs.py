"""The jobs that consist of many trainings, as those of `engine.jobs`: importing this imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from napari_tlseg.engine.jobs import Anchored
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event


def parse_strengths(given: list[str]) -> tuple[float, ...]:
    """`["inf,1,0.1"]` → (inf, 1.0, 0.1); `["auto"]` → (); ValueError for what is no number."""
    return () if given == ["auto"] else tuple(float(part) for part in given[0].split(","))


Strengths = Annotated[
    tuple[float, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="λ,λ,…",
        instance_from_str=parse_strengths,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(f"{λ:g}" for λ in value) or "auto"],
    ),
]


@dataclass(frozen=True, kw_only=True)
class LambdaPath(Anchored):
    """Train at every λ from ∞ down to 0, each going on from the one before: nine for little more than one run.

    The run folder holds every model, and as its own model the λ that the validation cases recommend.
    """

    strengths: Annotated[Strengths, arg(name="lambdas")] = ()
    """From large to small, as inf,1,0.1,0; auto spaces them so that the encoder goes as far from each to the next."""
    count: int = 9
    """How many λ auto takes, ∞ and 0 among them."""
    warm: float = 0.125
    """Steps at each further λ, as a share of --steps, which are those at the first."""
    final_look: bool = False
    """Also score the held-out cases at every λ, for a figure; not to choose by."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for strength in self.strengths:
            self._require_strength(strength, "--lambdas")
        if list(self.strengths) != sorted(set(self.strengths), reverse=True):
            raise InputError(f"--lambdas {self.strengths} is not possible", remedy="name each once, the largest first")
        if not self.strengths and self.solver == "paper":
            raise InputError("--solver paper cannot start at λ = ∞", remedy="name the λ, as --lambdas 50,8,1,0")
        if self.source == "none":
            raise InputError(
                "a path needs a source: without one λ has nothing to hold", remedy="name one with --source"
            )
        if not (2 <= self.count <= 50 and 0 < self.warm <= 1):
            raise InputError("--count must lie between 2 and 50, --warm above 0 and at most at 1")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.path import path

        return path(self, control)

    @property
    def first(self) -> float:
        """The λ where it begins."""
        return self.strengths[0] if self.strengths else math.inf
