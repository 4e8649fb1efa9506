"""Segment medical images from few masks: click targets, pretrain on the clicks, fine-tune close to what was learned.

Names are loaded when they are first used: importing the package imports neither torch nor Qt nor napari.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Anchor": "learn.anchor",
    "AnchoredAdam": "learn.anchor",
    "Case": "data.case",
    "Control": "events",
    "Crossval": "studies.jobs",
    "Dataset": "data.case",
    "Demo": "engine.jobs",
    "Efficiency": "studies.jobs",
    "Explain": "engine.jobs",
    "Finetune": "engine.trainings",
    "InputError": "errors",
    "Localizer": "nets.heads",
    "LambdaPath": "studies.jobs",
    "Locate": "engine.jobs",
    "Predict": "engine.jobs",
    "Pretrain": "engine.trainings",
    "Report": "studies.jobs",
    "Score": "engine.jobs",
    "Sources": "engine.jobs",
    "Student": "studies.teaching",
    "UNet": "nets.unet",
    "crossval": "journey",
    "efficiency": "journey",
    "finetune": "journey",
    "fit": "learn.fit",
    "locate": "journey",
    "make_encoder": "nets.encoders",
    "path": "journey",
    "predict": "journey",
    "pretrain": "journey",
    "read_dataset": "data.folder",
    "score": "journey",
    "student": "journey",
    "write_masks": "data.annotations",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
