"""What a path of λ found: Dice and precision against λ, and beside them how far the encoder went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from napari_tlseg.events import Event, Reached
from napari_tlseg.gui.widgets.fields import as_tooltip
from napari_tlseg.gui.widgets.plot import Plot
from napari_tlseg.gui.widgets.strength import LAST, tick_of

NAMES = {tick_of(strength): name for strength, name in ((0.0, "0"), (1e-2, "0.01"), (math.inf, "∞"))}
"""Below the x axis, which has the ticks of the slider: logarithmic, with 0 and ∞ as its ends."""
ROOM = 8
"""Ticks beyond ∞, for its name."""


class PathPlot(QWidget):
    """Grows with every λ that is reached."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.stages: list[Reached] = []
        """Of the path that is shown, from ∞ down."""
        self._score, self._drift = Plot(self), Plot(self)
        self._score.setToolTip(
            as_tooltip("Mean over the validation cases at each λ; the bars are one standard deviation long, both ways.")
        )
        self._drift.setToolTip(as_tooltip("How far the encoder's weights are from the source's, relative to these."))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)  # the room is for the curves
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._score, 3)
        row.addWidget(self._drift, 2)
        for plot in (self._score, self._drift):
            plot.span(LAST + ROOM, labelled=True)
            plot.number(NAMES)
        self.clear()

    def clear(self) -> None:
        self.stages = []
        self._draw()

    def hear(self, event: Event) -> None:
        if isinstance(event, Reached):
            self.stages.append(event)
            self._draw()

    def load(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """The path of a run that is over, as its summary records it."""
        self.stages = [stage_of(record) for record in stages]
        self._draw()

    def _draw(self) -> None:
        self.setVisible(bool(self.stages))
        ordered = sorted(self.stages, key=lambda stage: stage.strength or 0.0)
        ticks = [tick_of(stage.strength or 0.0) for stage in ordered]
        dice, spread, precision = ([_number(stage.scores.get(name)) for stage in ordered] for name in SCORES)
        drifts = [100 * _number(stage.drift) for stage in ordered]
        best = max(range(len(dice)), key=lambda index: _or_less(dice[index]), default=None)
        best = best if best is not None and math.isfinite(dice[best]) else None
        self._score.draw_spread(ticks, dice, spread)
        self._score.draw_second(ticks, precision)
        self._score.draw_looks(ticks, dice, best=best, highest=1.0)
        self._drift.draw_looks(ticks, drifts)
        self._score.write("Dice, – – precision", "" if best is None else f"{dice[best]:.3g}")
        self._drift.write("Moved, %", "")


SCORES = ("dice_mean", "dice_sd", "precision_mean")


def stage_of(record: Mapping[str, Any]) -> Reached:
    """A λ as JSON keeps it, where ∞ is "inf"."""
    strength, drift = record.get("strength"), record.get("drift")
    return Reached(
        strength=None if strength is None else float(strength),
        drift=None if drift is None else float(drift),
        drifts=tuple(map(float, record.get("drifts", ()))),
        scores=dict(record.get("scores", {})),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _or_less(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
