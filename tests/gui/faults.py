"""Trainings that go wrong by themselves, for a worker that finds this file on its path."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Control, Event, Stepped


@dataclass(frozen=True, kw_only=True)
class FullDisk(Finetune):
    """From its first step on nothing more can be written to the disk."""

    def _work(self, control: Control) -> Iterator[Event]:
        for event in super()._work(control):
            if isinstance(event, Stepped):
                os.fsync = _refuse
            yield event


@dataclass(frozen=True, kw_only=True)
class Broken(Finetune):
    """Fails in its third step as torch does: with a RuntimeError."""

    sentence: str = "mat1 and mat2 shapes cannot be multiplied (2x8 and 4x4)"

    def _work(self, control: Control) -> Iterator[Event]:
        for event in super()._work(control):
            yield event
            if isinstance(event, Stepped) and event.step == 3:
                raise RuntimeError(self.sentence)


def _refuse(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")
