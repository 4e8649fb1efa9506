"""The jobs that consist of many trainings, as those of `engine.jobs`: importing this imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional, Suppress, arg
from tyro.constructors import PrimitiveConstructorSpec

from napari_tlseg.data.case import Dataset
from napari_tlseg.data.run import jsonable
from napari_tlseg.data.split import Annotation, Parts
from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.trainings import Anchored, Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event
from napari_tlseg.options import Origin


def parse_strengths(given: str) -> tuple[float, ...]:
    """`inf,1,0.1` → (inf, 1.0, 0.1); `auto` → (); ValueError for what is no number."""
    return () if given == "auto" else tuple(float(part) for part in given.split(","))


def _commas(metavar: str, parse: Callable[[str], tuple[Any, ...]], show: str = "{}") -> Any:
    """How a tuple is written in one word, with commas."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda given: parse(given[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(show.format, value)) or "auto"],
    )


Strengths = Annotated[tuple[float, ...], _commas("λ,λ,…", parse_strengths, "{:g}")]
Sizes = Annotated[tuple[int, ...], _commas("N,N,…", lambda given: tuple(int(part) for part in given.split(",")))]
Sources = Annotated[tuple[str, ...], _commas("FILE,…", lambda given: tuple(given.split(",")))]


@dataclass(frozen=True, kw_only=True)
class Walking(Anchored):
    """What trainings share that go from one λ to the next smaller one."""

    strengths: Annotated[Strengths, arg(name="lambdas")] = ()
    """From large to small, as inf,1,0.1,0; auto spaces them so that the encoder goes as far from each to the next."""
    warm: float = 0.0625
    """Steps at each λ, as a share of the steps, after as many as these at the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for strength in self.strengths:
            self._require_strength(strength, "--lambdas")
        if list(self.strengths) != sorted(set(self.strengths), reverse=True):
            raise InputError(f"--lambdas {self.strengths} is not possible", remedy="name each once, the largest first")
        if not self.strengths and self.solver == "paper":
            raise InputError("--solver paper cannot start at λ = ∞", remedy="name the λ, as --lambdas 50,8,1,0")
        if not 0 <= self.warm <= 1:
            raise InputError(f"--warm {self.warm:g} is not possible", remedy="give a share of at most 1")

    @property
    def first(self) -> float:
        """The λ where it begins."""
        return self.strengths[0] if self.strengths else math.inf


@dataclass(frozen=True, kw_only=True)
class LambdaPath(Walking):
    """Train at every λ from ∞ down to 0, each going on from the one before: nine for little more than one run.

    The run folder holds every model, and as its own model the λ that the validation cases recommend.
    """

    count: int = 9
    """How many λ auto takes, ∞ and 0 among them."""
    final_look: bool = False
    """Also score the held-out cases at every λ, for a figure; not to choose by."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.has_source:
            reason = "a path needs a source: without one λ has nothing to hold"
            raise InputError(reason, remedy="name one with --source")
        if not self.warm:
            raise InputError("a path goes on from one λ to the next", remedy="give --warm above 0")
        if not 2 <= self.count <= 50:
            raise InputError(f"--count {self.count} is not possible", remedy="give a number from 2 to 50")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.path import path

        return path(self, control)


@dataclass(frozen=True, kw_only=True)
class Trial(Walking):
    """One training of a study, and the scores of other cases at each λ; nothing is written."""

    training: tuple[str, ...]
    """The cases to learn from."""
    test: tuple[str, ...]
    """The cases to score; nothing is chosen by them, the weights are the last ones."""

    def parts(self, dataset: Dataset, annotation: Annotation) -> Parts:
        """Those that are named."""
        training, test = (tuple(dataset[name] for name in names) for names in (self.training, self.test))
        return Parts(training=training, held_out=test)

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.trials import trial

        return trial(self, control)


PLACE = ("out", "overwrite", "scheduler", "device")
"""What may differ when a study goes on another day."""


@dataclass(frozen=True, kw_only=True)
class Study(Walking):
    """What studies share: many trials over folds, each a file, so that a study which was ended goes on where it was."""

    strengths: Annotated[Strengths, arg(name="lambdas")] = (math.inf, 0.1, 1e-2, 1e-3, 1e-4, 0.0)
    """From large to small, the same in every fold."""
    warm: float = 0.0
    """0 trains at every λ anew, as without a source; above it goes on from the larger λ: quicker, and a first look."""
    folds: int = 5
    """Each patient is in the test part of one fold, and trained on in the others."""
    scheduler: Annotated[str | None, arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Of a Dask cluster, as tcp://host:8786, that sees the data under the same path; by default this machine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strengths:
            raise InputError("a study has the same λ in every fold", remedy="name them with --lambdas")
        if self.folds < 2:
            raise InputError(f"--folds {self.folds} is not possible", remedy="give 2 or more")

    @property
    def record(self) -> dict[str, Any]:
        """What job.json holds of it: a study with the same record goes on with it."""
        own = {key: value for key, value in asdict(self).items() if key not in PLACE}
        plain: dict[str, Any] = jsonable({"job": type(self).__name__.lower(), **own})
        return plain


@dataclass(frozen=True, kw_only=True)
class Crossval(Study):
    """Recommend λ: train on all folds but one, score that one, at every λ and without the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.has_source:
            raise InputError("a study of λ needs a source", remedy="name one with --source")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.crossval import crossval

        return crossval(self, control)


@dataclass(frozen=True, kw_only=True)
class Efficiency(Study):
    """What more masks bring, with each source and without: Dice against their number, over folds."""

    source: Annotated[Origin | Path, Suppress] = "none"
    sources: Annotated[Sources, arg(name="sources")] = ("none",)
    """Such as none,clicks.safetensors: each a file, none, imagenet or medicalnet."""
    sizes: Annotated[Sizes, arg(name="sizes")] = (2, 4, 8, 16)
    """Numbers of masks to train on."""
    strengths: Annotated[Strengths, arg(name="lambdas")] = (math.inf, 1e-2, 1e-3, 0.0)
    """From large to small; for each fold the one is taken that is best in the others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.sizes, default=0) < 1 or len({*self.sizes}) < len(self.sizes):
            raise InputError(f"--sizes {self.sizes} is not possible", remedy="give different numbers of 1 or more")

    @property
    def has_source(self) -> bool:
        """Whether any of them is a pretrained encoder."""
        return any(source != "none" for source in self.sources)

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.efficiency import efficiency

        return efficiency(self, control)


@dataclass(frozen=True, kw_only=True)
class Report(Job):
    """Draw the figures of a run, a path or a study; one page with them, its methods, and where it comes from.

    Of several studies of the same data one page: a line per source, those that differ in their seed alone put together.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="(required)")]
    """A folder that finetune, path, crossval or efficiency has made; or several of crossval, or of efficiency."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of the page and its figures: by default the run's own; of several it has to be named."""
    cases: Annotated[tuple[str, ...], arg(metavar="CASE...", help_behavior_hint="")] = ()
    """Those that a path is shown on; by default two of its validation cases."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("no run was given", remedy="name its folder")
        if len(self.runs) > 1 and self.out is None:
            raise InputError("several studies have no folder in common", remedy="name one with --out")

    def _work(self, control: Control) -> Iterator[Event]:
        if len(self.runs) > 1:
            from napari_tlseg.studies.compare import compare

            return compare(self)
        from napari_tlseg.studies.report import report

        return report(self, control)


@dataclass(frozen=True, kw_only=True)
class Disagree(Job):
    """Map where the models of a path disagree, of cases with a mask or without: most of it is the next mask to draw.

    A map and a line of the table for each case, in the run folder; those that are there are not made again.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Dataset folder."""
    model: Path
    """A run folder that holds a path."""
    cases: Annotated[tuple[str, ...], arg(metavar="CASE...", help_behavior_hint="")] = ()
    """Only these cases, by name; by default all."""
    overwrite: bool = False
    """Make those anew that are there already."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.disagree import disagree

        return disagree(self, control)


@dataclass(frozen=True, kw_only=True)
class Scrub(Job):
    """Say what a path finds in one plane at every λ that it is told, until it is stopped; nothing is written.

    Of a photograph that is the mask that `predict` would write; of a volume a plane before it is cleaned.
    """

    beside: ClassVar[bool] = True
    data: Path
    """Dataset folder."""
    model: Path
    """A run folder that holds a path."""
    case: str
    plane: int = 0
    """Of a volume."""
    strength: float = Finetune.strength
    """The first λ."""

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise InputError(f"--lambda {self.strength} is not possible", remedy="give 0 or more, or inf")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.studies.scrub import scrub

        return scrub(self, control)
