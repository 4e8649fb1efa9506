"""What a client and its worker process say to each other: frozen facts, pickled, each led by its length.

Only ever read from a process that was started here: a pickle of someone else's can run code.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from napari_tlseg.events import Event

LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What can you work with?"""


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Do this job after those that came before."""

    id: int
    job: bytes
    """Pickled by itself, so that a job which cannot be read fails alone."""


@dataclass(frozen=True, kw_only=True)
class SetStrength:
    """Go on with another λ."""

    id: int
    strength: float


@dataclass(frozen=True, kw_only=True)
class Wake:
    """What this job works with has changed on the disk: look again."""

    id: int


@dataclass(frozen=True, kw_only=True)
class Stop:
    """End this job after the step it is at, and keep what was learned."""

    id: int


@dataclass(frozen=True, kw_only=True)
class Quit:
    """Stop all jobs and end. That the pipe is closed says the same."""


Request = Ask | Submit | SetStrength | Wake | Stop | Quit


@dataclass(frozen=True, kw_only=True)
class Device:
    """Something to compute on."""

    name: str
    """As a job's `device` calls it: cpu, cuda:0, mps."""
    label: str
    """As a person calls it."""


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What the worker can work with."""

    devices: tuple[Device, ...]
    """The first is what `auto` takes."""
    no_gpu: str
    """Why `auto` takes no GPU; empty where it does."""
    encoders: tuple[str, ...]
    versions: Mapping[str, str]
    """Of Python and of the packages that a result depends on."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The job ended without a result; what it had saved is intact."""

    sentence: str
    """For the user: what was wrong and the way out."""
    traceback: str
    """For the log; of a worker that died, the last that it said."""
    kind: Literal["input", "memory", "defect", "died"]
    """What the user gave; a full memory; an error of this program; the end of the worker process."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """An event of a job; the last one is Finished or Failed."""

    id: int
    event: Event | Failed


Reply = Greeting | Told


def send(stream: BinaryIO, message: Request | Reply) -> None:
    """Write one message, or nothing of it where it cannot be pickled."""
    content = pickle.dumps(message)
    stream.write(LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: BinaryIO) -> Iterator[object]:
    """The messages until the other side has gone, be it in the middle of one."""
    while len(head := stream.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        content = stream.read(length)
        if len(content) < length:
            return
        yield pickle.loads(content)
