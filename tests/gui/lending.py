"""One worker process for many windows: it imports torch for seconds, and few tests are about its start or its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from napari_tlseg.engine.client import Client, Handle, State
from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.messages import Failed, Greeting
from napari_tlseg.events import Finished

MINUTE = 60


class Lent:
    """In place of a client of its own: closed, it ends its jobs and leaves the worker alive."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._jobs: list[tuple[Handle, threading.Event]] = []

    @property
    def state(self) -> State:
        return self._client.state

    @property
    def pid(self) -> int | None:
        return self._client.pid

    @property
    def greeting(self) -> Future[Greeting]:
        return self._client.greeting

    def start(self) -> None:
        self._client.start()

    def submit(self, job: Job, tell: Callable[[Any], object]) -> Handle:
        over = threading.Event()

        def hear(event: Any) -> None:
            tell(event)
            if isinstance(event, Finished | Failed):
                over.set()

        handle = self._client.submit(job, hear)
        self._jobs.append((handle, over))
        return handle

    def close(self) -> None:
        for handle, _ in self._jobs:
            handle.stop()
        assert all(over.wait(MINUTE) for _, over in self._jobs), "a job did not end when it was told to"


def lend(client: Client) -> Callable[[Path, Callable[[Failed], object]], Lent]:
    """What makes clients for windows."""
    return lambda log, died: Lent(client)
