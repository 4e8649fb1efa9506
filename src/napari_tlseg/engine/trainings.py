"""The jobs that train, and how long one would take: as those of `jobs`, importing this imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from napari_tlseg.data.case import Dataset
from napari_tlseg.data.recipes import find_recipe
from napari_tlseg.data.split import Annotation, Parts, Split, assign, choose, read_split
from napari_tlseg.engine.jobs import Job, OptionalInt, require
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event
from napari_tlseg.options import Head, Loss, Norm, Origin, Solver, Transfer, is_volumetric

Task = Literal["localize", "segment", "classify"]


@dataclass(frozen=True, kw_only=True)
class Training(Job):
    """What pretraining and fine-tuning share."""

    out: Path
    """Where the result is written."""
    masks: str = "masks"
    """Folder of the masks, beside images/."""
    recipe: str = "auto"
    """fundus, ct-lung, ct-lung-3, ct-lung-3-clipped or plain; auto picks by the data and says so."""
    size: OptionalInt = None
    """Side of the square that the network sees, pixels; by default the source's or the recipe's."""
    labels: OptionalInt = None
    """How many annotated images training and validation may see together; by default all that are not held out."""
    held_out: float = 0.2
    """Share of the patients kept for the final look."""
    steps: int = 300
    """Training steps."""
    batch: OptionalInt = None
    """Images per step; by default 8, or 2 patches where the encoder sees volumes."""
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
        require(self.steps >= 1, "--steps", self.steps, "at least 1")
        require(self.batch is None or self.batch >= 1, "--batch", self.batch, "at least 1")
        require(self.size is None or 32 <= self.size <= 2048, "--size", self.size, "between 32 and 2048")
        require(self.labels is None or self.labels >= 1, "--labels", self.labels, "at least 1")
        require(0 <= self.held_out < 1, "--held-out", self.held_out, "a share from 0 to below 1")
        require(0 < self.learning_rate <= 1, "--learning-rate", self.learning_rate, "above 0 and at most 1")
        require(self.patience >= 0, "--patience", self.patience, "0 or more")
        if self.recipe != "auto":
            find_recipe(self.recipe)

    def per_step(self, volumes: bool) -> int:
        """Images, or patches of volumes, in a step."""
        return self.batch or (2 if volumes else 8)

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
    """unet (Hu et al., sized for a CPU), maknet, or any of segmentation-models-pytorch, such as densenet121. Of
    volumes with masks: one of these with -3d behind it (inflated), or resnet10-med3d, resnet18-med3d (Med3D)."""
    init: Origin | Path = "none"
    """What the encoder starts from: nothing, weights from the hub, of ImageNet or (of Med3D) MedicalNet, or a file of
    such weights (.pth, .safetensors)."""
    gamma: float = 2.0
    """Of classify: the focal loss counts a label that is known with probability p by (1 − p)^gamma."""
    teacher: Annotated[Path | None, arg(metavar="SOURCE", help_behavior_hint="")] = None
    """Of classify: a source of the same labels that says which there are in other images, to learn from these too,
    under noise; the result may be the next teacher (noisy student; Xie et al.)."""
    unlabelled: Annotated[Path | None, arg(metavar="DATA", help_behavior_hint="")] = None
    """The folder of images that the teacher labels."""
    steps: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "localize":  # its batch-norm has one value per image
            require(self.batch is None or self.batch >= 2, "--batch", self.batch, "at least 2")
        if not self.data:
            raise InputError("no dataset was given", remedy="name a dataset folder")
        if len(self.data) > 1 and self.task != "segment":
            what = "clicks" if self.task == "localize" else "labels"
            raise InputError(f"{what} are learned from one dataset at a time", remedy="give one, or --task segment")
        if self.task != "segment" and is_volumetric(self.encoder):
            remedy = "add --task segment, or choose another --encoder"
            raise InputError(f"encoder {self.encoder} sees volumes, and learns from masks", remedy=remedy)
        require(0 <= self.gamma < math.inf, "--gamma", self.gamma, "0 or more")
        if (self.teacher is None) != (self.unlabelled is None):
            raise InputError("a teacher and images to label belong together", remedy="give --teacher and --unlabelled")
        if self.teacher is not None and self.task != "classify":
            remedy = "add --task classify; for masks there is napari-tlseg student"
            raise InputError(f"--teacher labels images, --task {self.task} learns no labels", remedy=remedy)

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.pretraining import pretrain

        return pretrain(self, control)


@dataclass(frozen=True, kw_only=True)
class Anchored(Training):
    """What trainings on few masks share that stay close to a source."""

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """Dataset folder: images/, with masks/ beside it."""
    source: Origin | Path = "none"
    """A pretrained encoder: a file made by pretrain or finetune, a file of ImageNet weights (of MedicalNet, for an
    encoder of Med3D), one of these by name from the hub, or none."""
    solver: Solver = "stable"
    """stable (proximal step in Adam's metric) or paper (gradient of the penalty, as published)."""
    norm: Norm = "target"
    """Whose statistics batch-norm uses in the encoder while it learns: those of the new images, or the source's."""
    encoder: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """By default the source's, without a source unet; or maknet, densenet121 … of segmentation-models-pytorch. Of
    volumes that of a 2-D source with -3d behind it (inflated), or resnet10-med3d, resnet18-med3d (Med3D)."""
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
        require(1.2 <= self.crop <= 20, "--crop", self.crop, "between 1.2 and 20")
        require(possible, "--stage-weights", self.stage_weights, "a number of 0 or more per stage")
        if self.anchor == "all" and (self.taken.kind != "full" or not self.has_source):
            raise InputError("--anchor all takes all of a source", remedy="add --source, and no --transfer")
        if self.taken.kind != "full" and not self.has_source:
            raise InputError(f"--transfer {self.transfer} takes from a source, there is none", remedy="add --source")

    @property
    def has_source(self) -> bool:
        """Whether there is a pretrained encoder to take from."""
        return self.source != "none"

    @cached_property
    def taken(self) -> Transfer:
        """`transfer`, read."""
        return Transfer.parse(self.transfer)

    def _require_strength(self, strength: float, flag: str) -> None:
        require(strength >= 0, flag, strength, "0 or more, or inf")
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
class Estimate(Job):
    """Take a few steps of a training on noise, to say how long all of it will last; nothing is written."""

    beside: ClassVar[bool] = True
    of: Pretrain | Finetune
    """The training as it would be submitted; its own device and seed count."""

    def _work(self, control: Control) -> Iterator[Event]:
        from napari_tlseg.engine.estimating import estimate

        return estimate(self, control)
