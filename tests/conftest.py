"""What every test shares: the order of the run, what is skipped where, and a check that nothing is left running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
"""Processes that share the tests."""
os.environ.setdefault(
    "OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)) if WORKERS == 1 else "1"
)  # before anything imports torch
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NAPARI_CONFIG"] = ""  # napari's defaults, and nothing written to the user's

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def screen_of_its_own() -> subprocess.Popen[str] | None:
    """A virtual screen for each of several workers: on a shared one their windows would take each other the focus."""
    if WORKERS == 1 or sys.platform != "linux" or shutil.which("Xvfb") is None:
        return None
    command = ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    os.environ["DISPLAY"] = f":{server.stdout.readline().strip()}"
    os.environ.pop("WAYLAND_DISPLAY", None)
    return server


def why_no_window() -> str:
    """Empty where Qt can open a window, else what keeps it from doing so; tried in a process that may die of it."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return "there is no screen: run `make test`, or pytest under xvfb-run"
    code = "from qtpy.QtWidgets import QApplication; QApplication([])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"Qt cannot open a window: {lines[0] if done.returncode < 0 else lines[-1]}"  # Qt aborts, Python raises


SCREEN = screen_of_its_own()
NO_WINDOW = why_no_window()
pytest_plugins = [] if NO_WINDOW else ["pytestqt.plugin"]  # which would end the whole run where Qt does not load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, slow ones last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_unconfigure() -> None:
    """The screen goes with its worker."""
    if SCREEN is not None:
        SCREEN.terminate()
        SCREEN.communicate()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with a sentence, what this machine cannot run."""
    if NO_WINDOW and item.get_closest_marker("window"):
        pytest.skip(NO_WINDOW)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")


def _running() -> set[threading.Thread | psutil.Process]:
    return {*threading.enumerate(), *psutil.Process().children(recursive=True)}


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Every thread and process that a test starts has ended two seconds after it."""
    before = _running()
    yield
    deadline = time.monotonic() + 2
    while (left := _running() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"left running: {left}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images, which are not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images are not on this machine")
    return SHARED_DATA
