"""The worker process: does one job after the other, so that a viewer neither stutters nor dies of one.

::

    client ── stdin ──►  listening thread ──► Control of the running job: stop, λ
                               └────────────► inbox ──► main thread: jobs, one at a time
    client ◄─ stdout ──────────────────────────────────────┘ their events
    log    ◄─ stderr, and what anything here prints

It ends when its stdin does, hence with the client: at once, but for a job that runs. That one is stopped, and may take
GRACE seconds to save what it has.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from typing import BinaryIO, cast

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin make every other program wait

from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.messages import (
    Ask,
    Device,
    Failed,
    Greeting,
    Quit,
    Reply,
    SetStrength,
    Stop,
    Submit,
    Told,
    Wake,
    receive,
    send,
)
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished

GRACE = 5.0
"""Seconds between the end of stdin and the end of the process."""
FULL = re.compile("out of memory|allocate memory")


def main() -> None:
    """Serve the client at the other end of the standard streams."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the client too, which says what is to be done
    worker = Worker(*_take_pipes())
    threading.Thread(target=worker.listen, name="listen to the client", daemon=True).start()
    import torch  # only now: its import takes seconds, and may print

    torch.set_flush_denormal(True)  # before there are other threads, which inherit it
    worker.work()
    os._exit(0)  # torch takes more than a second to take itself apart


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes from and to the client, for us alone: whoever else reads finds nothing, what is printed is logged."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return pipes


class Worker:
    """Works in one thread and listens in another."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests, self._replies = requests, replies
        self._inbox: SimpleQueue[Ask | Submit | Quit] = SimpleQueue()
        self._controls: dict[int, Control] = {}
        """Of the jobs that run or wait."""
        self._busy = False
        """Whether a job runs."""

    def listen(self) -> None:
        """Heed the client until it has gone, then see to it that the process ends."""
        for request in receive(self._requests):
            match request:
                case Submit():
                    self._controls[request.id] = Control()
                    self._inbox.put(request)
                case Stop() if control := self._controls.get(request.id):
                    control.stop = True
                case SetStrength() if control := self._controls.get(request.id):
                    control.strength = request.strength
                case Wake() if control := self._controls.get(request.id):
                    control.wake()
                case Ask():
                    self._inbox.put(request)
                case Quit():
                    break
        self._stop_all()
        self._inbox.put(Quit())
        if self._busy:
            threading.main_thread().join(GRACE)
        os._exit(1)

    def work(self) -> None:
        """Do what is in the inbox, in order, until there is a Quit."""
        for request in iter(self._inbox.get, Quit()):
            if isinstance(request, Submit):
                self._run(request)
            else:
                self._send(greeting())

    def _run(self, request: Submit) -> None:
        control, self._busy = self._controls[request.id], True
        try:
            for event in _events(request.job, control):
                self._send(Told(id=request.id, event=event))
        except (Exception, SystemExit) as error:
            failed = _failed(error)
            sys.stderr.write(failed.traceback)
            self._send(Told(id=request.id, event=failed))
        finally:
            self._busy = False
            del self._controls[request.id]

    def _send(self, reply: Reply) -> None:
        try:
            send(self._replies, reply)
        except OSError:  # the client has gone, as the listening thread finds too
            self._stop_all()

    def _stop_all(self) -> None:
        for control in list(self._controls.values()):
            control.stop = True


def _events(pickled: bytes, control: Control) -> Generator[Event, None, None]:
    """Those of a job; Finished comes once it has really ended."""
    job: Job = pickle.loads(pickled)
    finished: Finished | None = Finished(reason="stopped", out=None) if control.stop else None
    if finished is None:
        with closing(cast("Generator[Event, None, None]", job.run(control))) as events:
            for event in events:
                if isinstance(event, Finished):
                    finished = event
                else:
                    yield event
    if finished is None:
        raise RuntimeError(f"{type(job).__name__} ended without saying so")
    yield finished


def _failed(error: BaseException) -> Failed:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, InputError):
        cause = error.__cause__
        full = isinstance(cause, MemoryError) or FULL.search(str(cause).lower())
        return Failed(sentence=str(error), traceback=trace, kind="memory" if full else "input")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    sentence = (
        f"an error in napari-tlseg ended the job ({what}); what was saved is intact; please report it with the log"
    )
    return Failed(sentence=sentence, traceback=trace, kind="defect")


def greeting() -> Greeting:
    """What this process can work with; the first call imports all that jobs need, which takes seconds."""
    from napari_tlseg.nets.checkpoint import current_versions
    from napari_tlseg.nets.encoders import encoder_names

    devices, no_gpu = _devices()
    return Greeting(devices=devices, no_gpu=no_gpu, encoders=tuple(encoder_names()), versions=current_versions())


def _devices() -> tuple[tuple[Device, ...], str]:
    """The devices, that of `auto` first, and why that is no GPU."""
    import torch

    cpu = Device(name="cpu", label=f"CPU, threads: {torch.get_num_threads()}")
    mps = [Device(name="mps", label="GPU of this Mac")] if torch.backends.mps.is_available() else []
    no_gpu = _why_no_cuda()
    count = 0 if no_gpu else torch.cuda.device_count()
    cuda = [Device(name=f"cuda:{index}", label=torch.cuda.get_device_name(index)) for index in range(count)]
    return (*cuda, cpu, *mps), no_gpu


def _why_no_cuda() -> str:
    import torch

    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch was built without CUDA; https://pytorch.org tells how to install one that has it"
    try:
        torch.empty(0, device="cuda")
    except RuntimeError as error:
        return "PyTorch says: " + str(error).split(". ")[0]
    return "PyTorch finds no GPU that it can use"


if __name__ == "__main__":
    main()
