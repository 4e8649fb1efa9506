"""What the Train dock says of a run, and of its slider."""

from __future__ import annotations

from napari_tlseg.gui.runs import Run
from napari_tlseg.gui.train.source_box import Source
from napari_tlseg.gui.widgets.strength import drift_text

WALKS = "It goes through all λ by itself."


def previews(run: Run) -> str:
    """What moving the slider does."""
    return f"Preview: the slice is shown as {run.name} finds it at this λ."


def unheld(source: Source) -> str:
    """Why λ cannot be chosen; empty where it can."""
    return "Without a source there is nothing to stay close to." if source == "none" else ""


def verdict(run: Run) -> str:
    """A run in a sentence: its validation Dice with its spread, or that there is too little to judge by."""
    if not run.summary:
        return f"{run.name} did not come to its end: its best model so far is kept, but was not scored."
    dice, sd = run.validation.get("dice_mean"), run.validation.get("dice_sd")
    cases = len(run.validation.get("cases", ()))
    moved = "" if run.summary.get("drift") is None else f" The {drift_text(run.summary['drift'])}."
    if dice is None and run.summary.get("reason") == "stopped":
        return f"{run.name} was stopped: what it learned is kept, but was not scored.{moved}"
    if dice is None:
        return f"{run.name} is trained. There are no validation masks to judge it by: look at it in Review.{moved}"
    spread = "" if sd is None else f" ± {sd:.2f}"
    advice = f" {run.summary['recommendation']}" if run.stages else ""
    few = " Too few to judge by." if run.too_few else ""
    judged = f"{run.name}: Dice {dice:.3f}{spread} on {cases} validation case{'' if cases == 1 else 's'}."
    return f"{judged}{few}{moved}{advice} Review shows where it errs."
