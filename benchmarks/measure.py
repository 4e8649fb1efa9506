"""What the benchmarks share: calls in turn, ratios with their interval, a busy neighbour, phantoms, the record."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import trange

from napari_tlseg import read_dataset
from napari_tlseg.data.case import Dataset
from napari_tlseg.data.phantoms import write_chest, write_fundus

Phantom = Literal["fundus", "chest"]
Interval = tuple[float, float, float]
"""Median, and the bounds of its bootstrap 95% interval."""
POLICIES = {"passive": "PASSIVE", "as it comes": None}
"""OMP_WAIT_POLICY: what a thread that waits for the others does."""


def milliseconds(call: Callable[[], object]) -> float:
    """Of one call, with all that it left to do on a GPU."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def alternate(kinds: Mapping[str, Callable[[], object]], pairs: int, seed: int = 0) -> dict[str, list[float]]:
    """Milliseconds of each kind, one call per kind and pair in random order; a first pair is not counted.

    A machine that others use too is then as busy for one kind as for the other.
    """
    rng = random.Random(seed)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for call in kinds.values():
        call()
    for _ in trange(pairs, desc="pairs", leave=False):
        for kind in rng.sample(list(kinds), len(kinds)):
            times[kind].append(milliseconds(kinds[kind]))
    return times


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """The median of the values, with its interval."""
    samples = np.random.default_rng(0).choice(np.asarray(values), size=(10_000, len(values)))
    low, high = np.percentile(np.median(samples, axis=1), [2.5, 97.5])
    return float(np.median(values)), float(low), float(high)


def ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """Of the two times of each pair."""
    return interval(np.divide(above, below))


def blocks(call: Callable[[], object], pairs: int, calls: int = 3) -> dict[str, list[float]]:
    """Milliseconds of a call, the median of a block of them: quiet and busy blocks by turns."""
    times: dict[str, list[float]] = {"quiet": [], "busy": []}
    call()
    for _ in trange(pairs, desc="blocks", leave=False):
        for kind, neighbour in (("quiet", contextlib.nullcontext()), ("busy", burning_a_core())):
            with neighbour:
                times[kind].append(float(np.median([milliseconds(call) for _ in range(calls)])))
    return times


@contextlib.contextmanager
def burning_a_core() -> Iterator[None]:
    """One other process that never rests."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def busy_by_policy(script: str, options: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `script --blocks` writes, run once per policy: it has to be set before torch is imported."""
    found = {}
    for name, policy in POLICIES.items():
        environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "blocks.json")
            command = [sys.executable, script, *options, "--blocks", "--out", str(out)]
            subprocess.run(command, env=environment | ({"OMP_WAIT_POLICY": policy} if policy else {}), check=True)
            found[name] = json.loads(out.read_text())["results"]
    return found


def phantoms(kind: Phantom, count: int, seed: int = 0) -> Dataset:
    """Phantoms with masks, in a temporary folder that stays until the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="phantoms-")
    _KEPT.append(folder)
    path = Path(folder.name)
    if kind == "fundus":
        write_fundus(path, count, seed=seed)
    else:
        write_chest(path, count, seed=seed)
    return read_dataset(path)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "bfloat16": torch.cpu._is_avx512_bf16_supported(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
    }


def write_record(out: Path | None, settings: Any, results: Mapping[str, Any]) -> None:
    """All of it as JSON, where a file is asked for."""
    if out is not None:
        record = {"settings": asdict(settings), "machine": machine(), "results": results}
        out.write_text(json.dumps(record, indent=1, default=str) + "\n", encoding="utf-8")


def say(name: str, found: Interval) -> None:
    """One line for the terminal."""
    print(f"{name:44}{found[0]:9.3f}  [{found[1]:.3f}, {found[2]:.3f}]")
