"""A study on a real Dask scheduler with real workers, one of which is killed in mid-run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from napari_tlseg.cli import main
from napari_tlseg.data.run import read_summary
from tiny import FAST, write_eyes

pytest.importorskip("distributed", reason="needs the extra [cluster]")

SMALL = ("--lambdas", "inf,0", "--folds", "3", *FAST)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """(address, two workers), on the loopback interface; one survives the tests."""
    folder = tmp_path_factory.mktemp("cluster")
    place, logs = folder / "scheduler.json", (folder / "log").open("wb")
    quiet = {"stdout": logs, "stderr": logs, "cwd": folder}
    common = ["--no-dashboard", "--scheduler-file", str(place)]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", *common], **quiet
    )
    processes = [scheduler]
    try:
        for _ in range(2):
            options = ["--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", "--local-directory", str(folder)]
            processes.append(subprocess.Popen([sys.executable, "-m", "dask", "worker", *options, *common], **quiet))
        yield _address(place), processes[1:]
    finally:
        for process in processes:
            process.kill()  # asked, a worker looks for its scheduler first
        for process in processes:
            process.wait(20)
        logs.close()


def _address(place: Path) -> str:
    for _ in range(600):
        if place.exists() and place.read_text().strip():
            return str(json.loads(place.read_text())["address"])
        time.sleep(0.1)
    raise TimeoutError("the scheduler does not say where it is")


def arguments(eyes: Path, out: Path, *flags: str) -> list[str]:
    return ["crossval", str(eyes), "--source", str(eyes / "clicks.safetensors"), "--out", str(out), *SMALL, *flags]


def start(eyes: Path, out: Path, address: str) -> subprocess.Popen[str]:
    """The command in a process of its own, as a user has it: its events as lines."""
    command = [sys.executable, "-m", "napari_tlseg.cli", *arguments(eyes, out, "--scheduler", address, "--json")]
    return subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True)


def events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    yield from map(json.loads, process.stdout)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 10)
    assert main(["pretrain", str(root), "--out", str(root / "clicks.safetensors"), *FAST]) == 0
    return root


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], eyes: Path, tmp_path: Path
) -> None:
    address, workers = cluster
    with start(eyes, tmp_path / "there", address) as study:
        for event in events(study):
            if event["event"] == "Visited" and workers[0].poll() is None:
                workers[0].kill()
                workers[0].wait(20)
    assert study.returncode == 0 and workers[0].returncode == -signal.SIGKILL
    assert (event["event"], event["reason"], event["summary"]["trials"]) == ("Finished", "done", 6)
    assert main(arguments(eyes, tmp_path / "here")) == 0
    there, here = read_summary(tmp_path / "there"), read_summary(tmp_path / "here")
    assert [arm["patients"] for arm in there["arms"]] == [arm["patients"] for arm in here["arms"]]
    for one, other in zip(there["arms"], here["arms"], strict=True):
        assert one["dice_mean"] == pytest.approx(other["dice_mean"], abs=0.02)  # threads may differ in number


@pytest.mark.slow
def test_a_stop_ends_at_once_and_keeps_what_is_done(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], eyes: Path, tmp_path: Path
) -> None:
    with start(eyes, tmp_path / "study", cluster[0]) as study:
        told = events(study)
        next(event for event in told if event["event"] == "Visited")
        study.send_signal(signal.SIGINT)  # once: a second one would end it without a summary
        *_, event = told
    kept = {path.stem for path in (tmp_path / "study" / "trials").iterdir()}
    assert study.returncode == 0 and event["reason"] == "stopped" and kept
    assert event["summary"]["trials"] == len(kept) <= 6


HURRIED = (
    "import sys; from napari_tlseg import cli; from napari_tlseg.studies import places; "
    "places.PATIENCE = 0.5; sys.exit(cli.main())"
)


def test_a_scheduler_that_does_not_answer_is_named(eyes: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HURRIED, *arguments(eyes, tmp_path / "study", "--scheduler", "tcp://127.0.0.1:9")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("napari-tlseg: no scheduler answers at tcp://127.0.0.1:9")
