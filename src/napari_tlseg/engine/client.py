"""Jobs in another process: start it, submit, control, hear the events. Imports neither torch nor Qt."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.messages import (
    Ask,
    Failed,
    Greeting,
    Quit,
    Reply,
    Request,
    SetStrength,
    Stop,
    Submit,
    Wake,
    receive,
    send,
)
from napari_tlseg.events import Event, Finished

COMMAND = (sys.executable, "-P", "-X", "faulthandler", "-m", "napari_tlseg.engine.worker")
"""Without -P a file of the user's called random.py, in the folder where napari was started, would be imported."""
PATIENCE = 6.0
"""Seconds that a closing worker has to save what it learned; it takes up to 5 itself."""
KILLED = -9  # on POSIX, also by a system that runs out of memory
LAST_WORDS = 4000  # characters of the log
LONG = 1 << 20  # bytes of a log, which is then begun anew


class WorkerDied(RuntimeError):
    """The worker process ended before it answered."""


class State(Enum):
    """Of a client's worker process."""

    OFF = "not started, or closed"
    RUNNING = "running"
    DIED = "ended by itself, or killed"


class Handle:
    """A job that was submitted: its events, and what it can be told. Made by `Client.submit`."""

    def __init__(
        self, id: int, job: Job, ask: Callable[[Request], None], tell: Callable[[Event | Failed], object] | None
    ):
        self.id, self.job = id, job
        self._ask, self._tell = ask, tell
        self._events: SimpleQueue[Event | Failed] = SimpleQueue()
        self._read = False

    def stop(self) -> None:
        """End the job after the step it is at, keeping what was learned; one that still waits ends unbegun."""
        self._ask(Stop(id=self.id))

    def set_strength(self, strength: float) -> None:
        """Go on with another λ, from the next step or the one after; ValueError unless 0 ≤ λ ≤ ∞."""
        if not strength >= 0:  # nor is NaN
            raise ValueError(f"the strength λ must lie between 0 and ∞, not at {strength}")
        self._ask(SetStrength(id=self.id, strength=strength))

    def wake(self) -> None:
        """What the job works with has changed: let it look again."""
        self._ask(Wake(id=self.id))

    def __iter__(self) -> Iterator[Event | Failed]:
        """The events as they come; the last is Finished or Failed. Each is given once."""
        if self._tell is not None:
            raise RuntimeError("the events of this job go to its callback")
        while not self._read:
            event = self._events.get()
            self._read = isinstance(event, Finished | Failed)
            yield event

    def hear(self, event: Event | Failed) -> None:
        if self._tell is None:
            self._events.put(event)
        else:
            call(self._tell, event)


class Client:
    """Runs jobs in a worker process.

    ::

               start()                  the process ends
        OFF ────────────► RUNNING ─────────────────────────► DIED
         ▲                   │  ▲      start(), submit()       │
         │      close()      │  └──────────────────────────────┤
         └───────────────────┴─────────────────────────────────┘

    The first `start()` takes seconds until the worker answers (`greeting`); what is submitted meanwhile waits. Jobs run
    one after the other. When the worker dies, each job that ran or waited is told so by a `Failed` as its last event,
    or where there was none, `died` is called. Methods may be called from any thread, `close` not from a callback.

    log: what the worker prints is added to this file. Relative paths in a job start where the client was started.

    >>> with Client(Path("worker.log")) as client:  # doctest: +SKIP
    ...     for event in client.submit(Finetune(data=Path("eyes"), out=Path("run"))):
    ...         print(event)
    """

    def __init__(self, log: Path, died: Callable[[Failed], object] | None = None) -> None:
        self.log = log
        self._died = died
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._ids = itertools.count()

    @property
    def state(self) -> State:
        worker = self._worker
        if worker is None:
            return State.OFF
        return State.DIED if worker.ended else State.RUNNING

    @property
    def pid(self) -> int | None:
        """Of the worker process, or of the last one that died."""
        worker = self._worker
        return None if worker is None else worker.pid

    @property
    def greeting(self) -> Future[Greeting]:
        """What the worker can work with, once it says so; WorkerDied where it ends before."""
        if (worker := self._worker) is None:
            raise RuntimeError("start the client first")
        return worker.greeting

    def start(self) -> None:
        """Start the worker where none is running; OSError where the log cannot be written."""
        with self._lock:
            self._running()

    def submit(self, job: Job, tell: Callable[[Event | Failed], object] | None = None) -> Handle:
        """Run a job after those submitted before; a worker that died is started anew.

        Its events go to `tell`, which is called in the listening thread, or else are had by iterating the handle.
        """
        pickled = pickle.dumps(job)
        with self._lock:
            if self._worker is None:
                raise RuntimeError("start the client first")
            worker = self._running()
            handle = Handle(next(self._ids), job, worker.send, tell)
        worker.submit(handle, pickled)
        return handle

    def close(self) -> None:
        """Stop all jobs and end the worker: at once where nothing is to be saved, else in a few seconds at most.

        It is asked, then terminated, then killed.
        """
        with self._lock:
            worker = self._worker
            if worker is not None and worker.listener is threading.current_thread():
                raise RuntimeError("close the client from another thread than that of its callbacks")
            self._worker = None
        if worker is not None:
            worker.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> _Worker:
        if self._worker is None or self._worker.ended:
            self._worker = _Worker(self.log, self._died)
        return self._worker


class _Worker:
    """One worker process from its start to its end, and the thread that listens to it."""

    def __init__(self, log: Path, died: Callable[[Failed], object] | None) -> None:
        self.greeting: Future[Greeting] = Future()
        self._log, self._died = log, died
        self._lock = threading.RLock()
        self._handles: dict[int, Handle] = {}
        """Of the jobs that run or wait."""
        self._closing = False
        self._end: Failed | None = None
        self._start()

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        begin_anew(self._log)
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows would open a console
            )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._replies = cast("BinaryIO", self._process.stdout)
        self.listener = threading.Thread(target=self._listen, name="listen to the worker", daemon=True)
        self.listener.start()
        self.send(Ask())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._end is not None

    def send(self, request: Request) -> None:
        """Say something to the worker; one that has died hears nothing, as the listener finds by itself."""
        with self._lock, suppress(OSError):
            if not self.ended:
                send(self._requests, request)

    def submit(self, handle: Handle, pickled: bytes) -> None:
        with self._lock:
            if self._end is None:
                self._handles[handle.id] = handle
                self.send(Submit(id=handle.id, job=pickled))
                return
        handle.hear(self._end)

    def close(self) -> None:
        self._closing = True
        self.send(Quit())
        with self._lock:
            at_work = any(not handle.job.beside for handle in self._handles.values())
        grace = PATIENCE if at_work else 0  # it hears nothing while it imports torch
        for insist, patience in ((None, grace), (self._process.terminate, 1), (self._process.kill, 1)):
            if insist is not None:
                insist()
            self.listener.join(patience)
            if not self.listener.is_alive():
                return
        raise RuntimeError("the thread that listens to the worker does not end: one of its callbacks does not return")

    def _listen(self) -> None:
        fault = ""
        try:
            for reply in receive(self._replies):
                self._deliver(cast("Reply", reply))
        except Exception:  # what comes after cannot be trusted
            fault = traceback.format_exc()
        self._bury(fault)

    def _deliver(self, reply: Reply) -> None:
        if isinstance(reply, Greeting):
            self.greeting.set_result(reply)
            return
        handle = self._handles[reply.id]
        if isinstance(reply.event, Finished | Failed):
            del self._handles[reply.id]
        handle.hear(reply.event)

    def _bury(self, fault: str) -> None:
        """Leave nothing of the process behind, and tell everyone who still waits for it."""
        try:
            code = self._process.wait(0 if fault else PATIENCE if self._closing else 0.5)
        except subprocess.TimeoutExpired:  # it has closed its pipe, or what comes out of it is no use
            self._process.kill()
            code = self._process.wait()
        failed = Failed(sentence=self._obituary(code), traceback=fault or self._last_words(), kind="died")
        with self._lock:
            self._end = failed
            orphans = list(self._handles.values())
            self._handles.clear()
            with suppress(OSError):  # what it no longer reads
                self._requests.close()
            self._replies.close()
        if not self.greeting.done():
            self.greeting.set_exception(WorkerDied(failed.sentence))
        for handle in orphans:
            handle.hear(failed)
        if not orphans and not self._closing and self._died is not None:
            call(self._died, failed)

    def _obituary(self, code: int) -> str:
        if self._closing:
            return "the job was ended because napari-tlseg was closed; what was saved is intact"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        why = "perhaps because the memory was full" if code == KILLED else f"{self._log} may say why"
        return f"the worker process ended unexpectedly ({how}), {why}; what was saved is intact, start again"

    def _last_words(self) -> str:
        with suppress(OSError):  # the user may have removed it
            with self._log.open("rb") as log:
                log.seek(self._log_start)
                return log.read().decode(errors="replace")[-LAST_WORDS:]
        return ""


def begin_anew(log: Path, long: int = LONG) -> None:
    """Put a log that has become long aside, in place of the one before: there are never more than two."""
    with suppress(OSError):  # there is none, or Windows keeps it in place for another window
        if log.stat().st_size > long:
            os.replace(log, log.with_name(f"{log.name}.1"))


def call(callback: Callable[[Any], object], argument: object) -> None:
    """In the listening thread, which outlives an error of the callback: it is reported as that of any thread is."""
    try:
        callback(argument)
    except Exception as error:
        thread = threading.current_thread()
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))
