"""Where trials run: here one after the other, on each GPU of this machine, or on a Dask cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from napari_tlseg.data.run import jsonable
from napari_tlseg.engine.client import Client
from napari_tlseg.engine.messages import Failed
from napari_tlseg.errors import InputError
from napari_tlseg.events import Finished
from napari_tlseg.studies.jobs import Trial

PATIENCE = 10  # seconds that a scheduler has to answer


@contextmanager
def place_of(scheduler: str | None, job: Trial) -> Iterator[Executor | None]:
    """An executor for trials, or None where this process is to do them itself."""
    if scheduler is not None:
        with _cluster(scheduler) as executor:
            yield executor
        return
    devices = _gpus() if job.device in ("auto", "cuda") else ()
    if len(devices) < 2:
        yield None
        return
    with Devices(devices) as executor:
        yield executor


class Devices(ThreadPoolExecutor):
    """A worker process per device, each doing one trial at a time: `submit(anything, trial)` is the trial's summary."""

    def __init__(self, devices: tuple[str, ...]) -> None:
        super().__init__(max_workers=len(devices))
        self._stack, self._free = ExitStack(), SimpleQueue[tuple[Client, str]]()
        logs = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        for number, device in enumerate(devices):
            self._free.put((self._stack.enter_context(Client(logs / f"{number}.log")), device))

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The function is not called: the trial is run by a worker process, on the device that is free first."""
        return super().submit(self._run, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._stack.close()  # ends what runs
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _run(self, job: Trial) -> Mapping[str, Any]:
        client, device = self._free.get()
        try:
            *_, last = client.submit(replace(job, device=device))
        finally:
            self._free.put((client, device))
        if isinstance(last, Failed):
            raise InputError(last.sentence)
        assert isinstance(last, Finished)
        plain: Mapping[str, Any] = jsonable(last.summary)
        return plain


@contextmanager
def _cluster(address: str) -> Iterator[Executor]:
    """Trials on the workers behind a scheduler; those of a worker that dies are given to another."""
    try:
        import distributed
    except ImportError:
        reason = "--scheduler needs the package distributed"
        raise InputError(reason, remedy="pip install 'napari-tlseg[cluster]'") from None
    try:
        cluster: Any = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        remedy = "start one with: dask scheduler; and workers with: dask worker ADDRESS"
        raise InputError(f"no scheduler answers at {address} ({type(error).__name__})", remedy=remedy) from error
    with cluster, cluster.get_executor(pure=False, retries=3) as executor:
        yield executor


def _gpus() -> tuple[str, ...]:
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
