"""One frozen dataclass per job: the command line's flags, a panel's fields, a notebook's call and the run's record.

Importing this module imports no torch; `run()` does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from napari_tlseg.data.case import Dataset
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.split import Annotation, Parts, Split, assign, choose, read_split
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event
from napari_tlseg.learn.postprocess import Postprocess
from napari_tlseg.options import Format, Head, Loss, Norm, Precision, Solver, Transfer, Unreadable

Task = Literal["localize", "segment", "classify"]
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

    def run(self, control: Control | None = None) -> Iterator[Event]:
        """Do the job, an event at a time; to stop it, set `control.stop`, or ask for no further event."""
        from napari_tlseg.engine.running import guarded

        return guarded(self._work(control or Control()), self.relief)

    @abstractmethod
    def _work(self, control: Control) -> Iterator[Event]:
        """The job itself."""


@dataclass(frozen=True, kw_only=True)
class Training(Job):
    """What pretraining and fine-tuning share."""

    out: Path
    """Where the result is written."""
    masks: str = "masks"
    """Folder of the masks, beside images/."""
    recipe: str = "auto"
    """fundus, ct-lung, ct-lung-3 or plain; auto picks by the data and says so."""
    size: OptionalInt = None
    """Side of the square that the network sees, pixels; by default the source's or the recipe's."""
    labels: OptionalInt = None
    """How many annotated images training and validation may see together; by default all that are not held out."""
    held_out: float = 0.2
    """Share of the patients kept for the final look."""
    steps: int = 300
    """Training steps."""
    batch: int = 8
    """Images per step."""
    learning_rate: float = 1e-3
    """At its highest, after the warm-up."""
    patience: int = 0
    """Stop early after so many looks at the validation cases without a gain; 0 for never."""
    loss: Literal["auto", Loss] = "auto"
    """Of a segmentation: auto takes −log Dice for one class, and both for several."""
    overwrite: bool = False
    """Replace an earlier result of the same name."""
    relief: ClassVar[str] = "try a smaller --batch or --size"

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "--steps", self.steps, "at least 1")
        _require(self.batch >= 1, "--batch", self.batch, "at least 1")
        _require(self.size is None or 32 <= self.size <= 2048, "--size", self.size, "between 32 and 2048")
        _require(self.labels is None or self.labels >= 1, "--labels", self.labels, "at least 1")
        _require(0 <= self.held_out < 1, "--held-out", self.held_out, "a share from 0 to below 1")
        _require(0 < self.learning_rate <= 1, "--learning-rate", self.learning_rate, "above 0 and at most 1")
        _require(self.patience >= 0, "--patience", self.patience, "0 or more")
        if self.recipe != "auto":
            find_recipe(self.recipe)

    def parts(self, dataset: Dataset, annotation: Annotation) -> Parts:
        """The annotated cases it works with, by part; writes nothing."""
        parts = assign(dataset, self.seed, self.held_out, known=read_split(dataset.folder))
        return choose(dataset, Split(parts=parts, held_out=self.held_out), self.labels, annotation, self.seed)


@dataclass(frozen=True, kw_only=True)
class Pretrain(Training):
    """Teach an encoder on annotations that are cheap, such as clicks on the target's centre; the result is a source."""

    data: Annotated[Positional[tuple[Path, ...]], arg(metavar="DATA...", help_behavior_hint="(required)")]
    """Dataset folder: images/, with masks/ or clicks.csv beside it. Of several, one encoder learns all the masks."""
    task: Task = "localize"
    """localize learns from clicks.csv, segment from masks, classify from labels.csv or which classes a mask holds."""
    head: Head = "regression"
    """Of localize: regression (one point; Hu et al.), heatmap (finds it more exactly, and says how sure it is), or unet
    (a heat map from a whole U-Net, whose decoder is then pretrained too)."""
    encoder: str = "unet"
    """unet (Hu et al., sized for a CPU), maknet, or any of segmentation-models-pytorch, such as densenet121."""
    init: Literal["none", "imagenet"] | Path = "none"
    """What the encoder starts from: nothing, ImageNet weights from the hub, or a file of them (.pth, .safetensors)."""
    gamma: float = 2.0
    """Of classify: the focal loss counts a label that is known with probability p by (1 − p)^gamma."""
    steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "localize":  # its batch-norm has one value per image
            _require(self.batch >= 2, "--batch", self.batch, "at least 2")
        if not self.data:
            raise InputError("no dataset was given", remedy="name a dataset folder")
        if len(self.data) > 1 and self.task != "segment":
            what = "clicks" if self.task == "localize" else "labels"
            raise InputError(f"{what} are learned from one dataset at a time", remedy="give one, or --task segment")
        _require(0 <= self.gamma < math.inf, "--gamma", self.gamma, "0 or more")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.pretraining import pretrain

        return pretrain(self, control)


@dataclass(frozen=True, kw_only=True)
class Anchored(Training):
    """What trainings on few masks share that stay close to a source."""

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Dataset folder: images/, with masks/ beside it."""
    source: Literal["none", "imagenet"] | Path = "none"
    """A pretrained encoder: a file made by pretrain or finetune, a file of ImageNet weights, or none."""
    solver: Solver = "stable"
    """stable (proximal step in Adam's metric) or paper (gradient of the penalty, as published)."""
    norm: Norm = "target"
    """Whose statistics batch-norm uses in the encoder while it learns: those of the new images, or the source's."""
    encoder: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """By default the source's, without a source unet; or maknet, densenet121 … of segmentation-models-pytorch."""
    transfer: Annotated[str, arg(metavar="full|mean-var|lowest:K")] = "full"
    """What of the source is taken: full (all of it), mean-var (drawn with its mean and variance, for λ = 0),
    lowest:K (its K lowest convolution layers; the others are drawn anew, and λ does not hold them)."""
    anchor: Literal["encoder", "all"] = "encoder"
    """What of the source is taken and held by λ: its encoder, or its decoder too, where it has one."""
    focus: Literal["none"] | Path = "none"
    """Look at crops about the target, where the click or this localizer says it is; none for whole images. For one
    compact target, such as the optic disc."""
    crop: float = 2.0
    """Side of the crops, as a multiple of the target's usual extent."""
    stage_weights: Annotated[tuple[float, ...], arg(metavar="W...", help_behavior_hint="")] = ()
    """λ of each encoder stage as a multiple of λ, the finest stage first; by default 1 for all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        possible = all(0 <= weight < math.inf for weight in self.stage_weights)
        _require(1.2 <= self.crop <= 20, "--crop", self.crop, "between 1.2 and 20")
        _require(possible, "--stage-weights", self.stage_weights, "a number of 0 or more per stage")
        if self.anchor == "all" and (self.taken.kind != "full" or self.source == "none"):
            raise InputError("--anchor all takes all of a source", remedy="add --source, and no --transfer")
        if self.taken.kind != "full" and self.source == "none":
            raise InputError(f"--transfer {self.transfer} takes from a source, there is none", remedy="add --source")

    @cached_property
    def taken(self) -> Transfer:
        """`transfer`, read."""
        return Transfer.parse(self.transfer)

    def _require_strength(self, strength: float, flag: str) -> None:
        _require(strength >= 0, flag, strength, "0 or more, or inf")
        if strength and self.taken.kind == "mean-var":
            reason = f"--transfer mean-var leaves {flag} {strength:g} nothing to hold to"
            raise InputError(reason, remedy=f"give {flag} 0")
        if self.solver == "paper" and math.isinf(strength):
            raise InputError(f"--solver paper cannot express {flag} inf", remedy="use --solver stable")


@dataclass(frozen=True, kw_only=True)
class Finetune(Anchored):
    """Train a segmentation model on few masks, staying as close to the source's encoder as λ says.

    Its scores are of masks cleaned by default; `predict` has the flags to clean otherwise.
    """

    strength: Annotated[float, arg(name="lambda")] = 1e-3
    """λ: 0 is plain fine-tuning, inf freezes the encoder, in between it is held the more closely the larger λ."""
    start: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Go on from an earlier run's weights, encoder and decoder; λ still holds the encoder to the source."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_strength(self.strength, "--lambda")

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.finetuning import finetune

        return finetune(self, control)


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
class Estimate(Job):
    """Take a few steps of a training on noise, to say how long all of it will last; nothing is written."""

    of: Pretrain | Finetune
    """The training as it would be submitted; its own device and seed count."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.estimating import estimate

        return estimate(self, control)


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

    data: Annotated[Positional[Path], arg(metavar="FILE")]
    """An image file, or a folder with a DICOM series."""
    model: Path
    """A run folder, or a source that was pretrained on clicks or labels."""
    out: Path
    """Picture to write, .png."""
    plane: OptionalInt = None
    """Which plane of a volume; by default the middle one."""
    steps: int = 50
    """Images between black and the real one that gradients are taken at."""
    overwrite: bool = False
    """Replace a file of that name."""

    def __post_init__(self) -> None:
        _require(2 <= self.steps <= 1000, "--steps", self.steps, "between 2 and 1000")

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


def _require(holds: bool, flag: str, value: object, allowed: str) -> None:
    if not holds:
        raise InputError(f"{flag} {value} is not possible", remedy=f"give {allowed}")
