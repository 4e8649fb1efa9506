"""What the options of the jobs are called in a window, where the command line has flags."""

from __future__ import annotations

import re

LABELS = {
    "strength": "Strength λ",
    "lambda": "Strength λ",
    "size": "Size, pixels",
    "head": "Finds the centre by",
    "transfer": "Taken of the source",
    "crop": "Crop, in target sizes",
    "focus": "Look where the clicks say",
    "labels": "Masks used",
    "batch": "Images per step",
    "held_out": "Share held out",
    "patience": "Stop early after",
    "norm": "Batch-norm of",
    "masks": "Folder of the masks",
}
"""Where a field's own name is not what a user would call it."""


def label(option: str) -> str:
    """
    >>> label("held_out"), label("learning_rate")
    ('Share held out', 'Learning rate')
    """
    return LABELS.get(option, option.replace("_", " ").capitalize())


def in_words(sentence: str) -> str:
    """A sentence of a job without flags of the command line.

    >>> in_words("the memory is full; try a smaller --batch or --size")
    'the memory is full; try a smaller ‘Images per step’ or ‘Size, pixels’'
    """
    return re.sub(r"(?<![\w-])--([a-z]+(?:-[a-z]+)*)", lambda flag: f"‘{label(flag[1].replace('-', '_'))}’", sentence)
