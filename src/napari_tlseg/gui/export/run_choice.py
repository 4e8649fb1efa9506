"""Which run finds the masks."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt

from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.widgets.narrow import NarrowChoice
from napari_tlseg.gui.widgets.strength import strength_text


class RunChoice(NarrowChoice):
    def __init__(self) -> None:
        super().__init__("run", "The trained model that finds the masks; the latest comes first")

    def value(self) -> Run | None:
        run = self.currentData()
        return run if isinstance(run, Run) else None

    def setRuns(self, runs: Sequence[Run]) -> None:
        """The run that was chosen stays, but the latest gives way to a later one; nothing is emitted."""
        kept = self.value() if self.currentIndex() > 0 else None
        with QSignalBlocker(self):
            self.clear()
            for row, run in enumerate(runs):
                self.addItem(run_words(run), run)
                self.setItemData(row, f"{run_words(run)}\n{run.path}", Qt.ItemDataRole.ToolTipRole)
            paths = [run.path for run in runs]
            if kept is not None and kept.path in paths:
                self.setCurrentIndex(paths.index(kept.path))


def run_words(run: Run) -> str:
    """Its name, λ, and how well it did on the validation cases."""
    if not run.summary:
        return f"{run.name} · not finished"
    strength = "no source" if run.strength is None else f"λ {strength_text(run.strength)}"
    return f"{run.name} · {strength} · {_dice_words(run)}"


def _dice_words(run: Run) -> str:
    mean, sd = run.validation.get("dice_mean"), run.validation.get("dice_sd")
    if mean is None:
        return "no validation"
    spread = "" if sd is None else f" ± {sd:.2f}"
    return f"Dice {mean:.2f}{spread}" + (", too few to judge" if run.too_few else "")
