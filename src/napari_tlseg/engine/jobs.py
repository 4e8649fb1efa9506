"""One frozen dataclass per job: the command line's flags, a panel's fields, a notebook's call and the run's record.

Those that train are in `trainings`. Importing this module imports no torch; `run()` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.options import Format, Precision, Unreadable

OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
Cleaning = Annotated[
    Postprocess,
    arg(
        name="cleaning",
        help="How masks are cleaned, in this order. Lengths: mm where the spacing is known, else pixels.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """What every job can be told."""

    seed: int = 0
    """The same seed gives the same result on a CPU."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1 or mps."""
    precision: Precision = "auto"
    """Number format of the convolutions; auto takes bfloat16 where the hardware is faster with it."""
    unreadable: Unreadable = "refuse"
    """An image file that cannot be opened: refuse the folder, or skip the file and say so."""
    relief: ClassVar[str] = "close other programs, or add --device cpu"
    """What to do where the memory is full."""
    beside: ClassVar[bool] = False
    """Whether it writes nothing and gives way to every other job."""

    def run(self, control: Control | None = None) -> Iterator[Event]:
        """Do the job, an event at a time; to stop it, set `control.stop`, or ask for no further event."""
        from napari_tlseg.engine.running import guarded

        return guarded(self._work(control or Control()), self.relief)

    @abstractmethod
    def _work(self, control: Control) -> Iterator[Event]:
        """The job itself."""


def require(holds: bool, flag: str, value: object, allowed: str) -> None:
    """Refuse the value of a flag, where it does not hold, and say what is allowed."""
    if not holds:
        raise InputError(f"{flag} {value} is not possible", remedy=f"give {allowed}")


@dataclass(frozen=True, kw_only=True)
class Predict(Job):
    """Write the masks that a run's model finds, on the grid of each image."""

    data: Annotated[Positional[tuple[Path, ...]], arg(metavar="DATA|FILE...", help_behavior_hint="(required)")]
    """A dataset folder, or image files."""
    model: Path
    """A run folder, or its model.safetensors."""
    out: Path
    """Folder for the masks."""
    cases: Annotated[tuple[str, ...], arg(metavar="CASE...", help_behavior_hint="")] = ()
    """Only these cases, by name; by default all."""
    format: Format = "auto"
    """Of the files: auto writes volumes as they came (DICOM as NIfTI), photographs as PNG; PNG holds no volume."""
    clean: Cleaning = field(default_factory=Postprocess)
    overwrite: bool = False
    """Replace masks that are there already."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.predicting import predict

        return predict(self, control)


@dataclass(frozen=True, kw_only=True)
class Locate(Job):
    """Write where a localizer sees the target's centre in each image: proposals to be accepted, not clicks."""

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Dataset folder."""
    model: Path
    """A source that was pretrained on clicks."""
    out: Path
    """Where to write the centres, a table like clicks.csv."""
    overwrite: bool = False
    """Replace a file of that name."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.locating import locate

        return locate(self, control)


@dataclass(frozen=True, kw_only=True)
class Assist(Job):
    """While someone clicks, learn from the clicks there are and propose the centres of the other photographs.

    Until it is stopped; nothing is written. To be woken when there are more clicks.
    """

    beside: ClassVar[bool] = True
    data: Path
    """Dataset folder."""
    first: int = 8
    """Clicks before it learns for the first time."""
    every: int = 4
    """New or moved clicks before it learns on."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.assisting import assist

        return assist(self, control)


@dataclass(frozen=True, kw_only=True)
class Score(Job):
    """Compare a folder of masks with those of a dataset, on the native grid."""

    predictions: Annotated[Positional[Path], arg(metavar="MASKS")]
    """Folder of predicted masks, named as the cases."""
    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Dataset folder with the true masks."""
    masks: str = "masks"
    """Folder of the true masks, beside images/."""
    out: Annotated[Path | None, arg(metavar="CSV", help_behavior_hint="")] = None
    """Where to write the scores as CSV."""
    overwrite: bool = False
    """Replace a file of that name."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.scoring import score

        return score(self, control)


@dataclass(frozen=True, kw_only=True)
class Sources(Job):
    """List the sources in a folder and those below it: what each was trained on, how, and how good it is."""

    data: Annotated[Positional[Path], arg(metavar="DIR")] = Path(".")
    """Folder of sources or runs."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.listing import list_sources

        return list_sources(self, control)


@dataclass(frozen=True, kw_only=True)
class Explain(Job):
    """Draw what in an image a model's answer comes from (integrated gradients), and see what changes without it."""

    data: Annotated[Positional[Path], arg(metavar="FILE|DATA")]
    """An image file, a folder with a DICOM series, or with --case a dataset folder."""
    model: Path
    """A run folder, or a source that was pretrained on clicks or labels."""
    case: Annotated[str | None, arg(metavar="CASE", help_behavior_hint="")] = None
    """Which case of a dataset folder, by name."""
    out: Annotated[Path | None, arg(metavar="PNG", help_behavior_hint="")] = None
    """Picture to write, .png."""
    plane: OptionalInt = None
    """Which plane of a volume; by default the middle one."""
    steps: int = 50
    """Images between black and the real one that gradients are taken at."""
    overwrite: bool = False
    """Replace a file of that name."""

    def __post_init__(self) -> None:
        require(2 <= self.steps <= 1000, "--steps", self.steps, "between 2 and 1000")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.explaining import explain

        return explain(self, control)


@dataclass(frozen=True, kw_only=True)
class Demo(Job):
    """The whole journey on phantoms or your own folder: clicks, pretraining, fine-tuning at several λ, a table."""

    out: Path = Path("demo")
    """Folder for all that is made."""
    data: Annotated[Path | None, arg(metavar="DATA", help_behavior_hint="")] = None
    """A dataset folder with clicks and masks; by default phantom fundus photographs are drawn."""
    pretrain_steps: int = 300
    """Training steps on the clicks."""
    steps: int = 120
    """Training steps of each of the four fine-tunings."""
    size: int = 128
    """Side of the square that the network sees, pixels: small, to be quick."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.demo import demo

        return demo(self, control)
