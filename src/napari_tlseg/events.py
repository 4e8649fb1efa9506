"""What a job says while it runs, and the little it listens to: plain data, told apart by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Bell
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Reason = Literal["done", "early", "stopped"]
"""Why it ended: all steps taken, no further gain on validation cases, or because the user said so."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A stage of a job began: `total` steps, cases or files lie ahead."""

    stage: str
    total: int


@dataclass(frozen=True, kw_only=True)
class Noted:
    """Something was assumed or found that the user should know, as a sentence."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One training step was taken."""

    step: int
    loss: float
    strength: float | None = None
    """λ in this step; None without a source."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The validation cases were looked at."""

    step: int
    scores: Mapping[str, float]
    kept: bool
    """Whether these weights are to keep: the best so far at this λ, or those of the last step."""
    drift: float | None = None
    """‖θ − θ̄‖ / ‖θ̄‖ of the encoder."""
    drifts: tuple[float, ...] = ()
    """The same of each of its stages, finest first; empty without a source."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A λ of a path is trained."""

    strength: float | None
    """None without a source."""
    drift: float | None = None
    drifts: tuple[float, ...] = ()
    """Of each stage of the encoder, finest first."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """Of the validation cases on their native grid: dice_mean, dice_sd, precision_mean, scored …"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Previewed:
    """What the models of a path say of one plane at a λ."""

    strength: float
    case: str
    plane: int
    labels: NDArray[np.uint8]
    """(Y, X) on the native grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attributed:
    """What in one plane an answer of a model comes from, and what becomes of the answer without it."""

    case: str
    plane: int
    answer: str
    """A class, a label, or y or x of a centre."""
    values: NDArray[np.float32]
    """(Y, X) on the native grid: what each pixel adds to the answer; below 0 it speaks against it."""
    found: bool
    """Whether the model marks any pixel of it; else the map is of what would speak for it."""
    changes: tuple[Mapping[str, Any], ...]
    """A row per change of the image: `answer`, `change`, confidence `before` and `after`, `Dice` of both masks."""


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """Where the target's centre may be in an image that nobody has clicked, after learning from so many clicks."""

    clicks: int
    case: str
    point: tuple[float, ...]
    """(y, x), stored pixel indices."""
    doubt: float | None
    """How far away the target may well be, pixels of the image."""
    unsure: bool


@dataclass(frozen=True, kw_only=True)
class Visited:
    """One case of the stage is through: read, predicted, or scored."""

    case: str
    path: Path | None = None
    """The file that was written for it."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The job ended, and `out` is whole."""

    reason: Reason
    out: Path | None
    """None where nothing was made."""
    summary: Mapping[str, Any] = field(default_factory=dict)


Event = Started | Noted | Stepped | Evaluated | Reached | Previewed | Attributed | Proposed | Visited | Finished


@dataclass(kw_only=True)
class Control:
    """What a running job reads between two steps, or waits for."""

    stop: bool = False
    """End now, and keep what was learned."""
    strength: float | None = None
    """A new λ, or None to stay with the job's own."""
    _bell: Bell = field(default_factory=Bell, init=False, repr=False, compare=False)

    def __setattr__(self, name: str, value: object) -> None:
        """Wake who waits."""
        super().__setattr__(name, value)
        if "_bell" in self.__dict__:
            self._bell.set()

    def wake(self) -> None:
        """What the job works with has changed: let it look again."""
        self._bell.set()

    def wait(self) -> None:
        """Until something is said; what was said since the last wait counts."""
        self._bell.wait()
        self._bell.clear()
