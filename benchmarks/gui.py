"""What the user feels: a real napari window while training runs, a click, a slice of a large volume with its overlay.

``frames``: a timer of 60 Hz in the window, at rest and while training steps demonstrably run; with ``--pan`` every tick
also moves the camera, so that the canvas is drawn. The training runs in the worker process, as the plugin does it, or
in a thread of the window's own process, for comparison; steps per second are held against the same job from the command
line. ``clicks``: from the mouse's release to the click on the disk and the next image on the canvas. ``slices``:
stepping through 512 × 512 × 300 voxels. Of all three the median of the rounds is said, and their range.
``rounds``: start, stop, close, and what is left behind.

    xvfb-run -s "-screen 0 1280x1024x24" python benchmarks/gui.py frames --rounds 3 --out frames.json
    xvfb-run -s "-screen 0 1280x1024x24" python benchmarks/gui.py clicks
    xvfb-run -s "-screen 0 1280x1024x24" python benchmarks/gui.py slices
    xvfb-run -s "-screen 0 1280x1024x24" python benchmarks/gui.py rounds --rounds 100
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NAPARI_CONFIG"] = ""

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "gui"))

import numpy as np
import psutil
import tyro
from hands import LEFT, NONE, Hands
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QPushButton

from napari_tlseg.data.phantoms import write_fundus
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Control, Event, Stepped

Where = Literal["worker", "thread"]
FRAME = 1000 / 60


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Frame intervals at rest and in training; each round in a new process, in random order."""

    rounds: int = 3
    seconds: float = 10
    """At rest; in training until all steps are taken."""
    steps: int = 60
    size: int = 192
    pan: bool = False
    """Move the camera at every tick."""
    out: Path | None = None
    one: Where | None = None
    """Internal: one measurement in this process, as JSON."""

    def run(self) -> None:
        if self.one is not None:
            print(json.dumps(one_window(self, self.one)))
            return
        found: dict[str, list[dict[str, Any]]] = {"worker": [], "thread": [], "headless": []}
        for seed in range(self.rounds):
            for kind in random.Random(seed).sample(sorted(found), 3):
                found[kind].append(headless(self) if kind == "headless" else self._measure(kind))
                print(kind, json.dumps(found[kind][-1]), flush=True)
        self._say(found)
        if self.out:
            self.out.write_text(json.dumps({"settings": self.__dict__, "results": found}, default=str, indent=1))

    def _measure(self, where: str) -> dict[str, Any]:
        options = ["--seconds", str(self.seconds), "--steps", str(self.steps), "--size", str(self.size)]
        command = [sys.executable, __file__, "frames", "--one", where, *options, *(["--pan"] if self.pan else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def _say(self, found: dict[str, list[dict[str, Any]]]) -> None:
        for where in ("worker", "thread"):
            for state in ("idle", "training"):
                for key in ("p50", "p99", "max"):
                    values = [each[state][key] for each in found[where]]
                    print(f"{where:8}{state:10}{key:5}{_spread(values)} ms")
            ratios = [
                each["steps_per_s"] / plain["steps_per_s"]
                for each, plain in zip(found[where], found["headless"], strict=True)
            ]
            print(f"{where:8}steps/s against headless {_spread(ratios)}")


@dataclass(frozen=True, kw_only=True)
class Clicks:
    """From the release of the mouse button to the click on the disk, and to the next image on the canvas.

    Each round without help while clicking and with it, in random order.
    """

    rounds: int = 3
    cases: int = 60
    size: int = 768
    out: Path | None = None

    def run(self) -> None:
        say_rounds([self._round(random.Random(seed)) for seed in range(self.rounds)], self.out)

    def _round(self, chance: random.Random) -> dict[str, list[float]]:
        ways = [(True, "helped"), (False, "alone")]
        found = {words: self._sitting(helped) for helped, words in chance.sample(ways, 2)}
        return {f"{what}, {words}": found[words][what] for _, words in ways for what in found[words]}

    def _sitting(self, helped: bool) -> dict[str, list[float]]:
        """A folder from its first image to its last, in a window of its own."""
        with tempfile.TemporaryDirectory() as name, window() as viewer:
            from napari_tlseg.gui.click.dock import ClickDock
            from napari_tlseg.gui.session import Session

            folder = Path(name)
            write_fundus(folder, self.cases, 0, size=self.size)
            (folder / "clicks.csv").unlink()
            written: list[float] = []
            session = Session.of(viewer)
            session.clicks_changed.connect(lambda: written.append(time.perf_counter()))  # before the dock hears of it
            dock = ClickDock(viewer)
            viewer.window.add_dock_widget(dock)
            dock.clicking.proposals.assistant.want(helped)
            session.open(folder)
            wait_for(lambda: session.case is not None and session.runner.greeting is not None)
            saved, shown = [], []
            for _ in range(self.cases - 1):
                pause(0.3)  # a person needs longer: the next image is read meanwhile
                each = self._click(viewer, session, folder, written)
                saved.append(each[0])
                shown.append(each[1])
        return {"click to saved": saved, "click to next image drawn": shown}

    def _click(self, viewer: Any, session: Any, folder: Path, written: list[float]) -> tuple[float, float]:
        hands, before, rows = Hands(viewer), session.case, len(session.clicks)
        place = hands.where(session.image, self.size / 2, self.size / 2)
        hands.send(QEvent.Type.MouseButtonPress, place, LEFT, LEFT)
        pause(0.05)
        written.clear()
        start = time.perf_counter()
        hands.send(QEvent.Type.MouseButtonRelease, place, LEFT, NONE)
        assert len((folder / "clicks.csv").read_text().splitlines()) == rows + 2
        wait_for(lambda: session.case is not before)
        hands.canvas.repaint()
        return 1e3 * (written[0] - start), 1e3 * (time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Stepping through the slices of a volume, bare and with the error overlay, each drawn before the next."""

    rounds: int = 3
    shape: tuple[int, int, int] = (300, 512, 512)
    steps: int = 200
    out: Path | None = None

    def run(self) -> None:
        say_rounds([self._round() for _ in range(self.rounds)], self.out)

    def _round(self) -> dict[str, list[float]]:
        """All ways of showing a volume, in a window of its own."""
        from napari.layers import Layer

        rng = np.random.default_rng(0)
        volume = rng.integers(-1000, 400, self.shape, dtype=np.int16)
        truth = (volume > 0).astype(np.uint8)
        found = np.roll(truth, 3, axis=2)
        results = {}
        with window() as viewer:
            from napari_tlseg.gui.canvas.roles import Canvas
            from napari_tlseg.gui.review.overlay import ErrorOverlay

            image = viewer.add_layer(Layer.create(volume, {"contrast_limits": (-1000, 400)}, "image"))
            results["bare"] = self._step(viewer)
            overlay = ErrorOverlay(Canvas(viewer))
            start = time.perf_counter()
            overlay.show(truth, found, image, 1)
            print(f"overlay made in {time.perf_counter() - start:.2f} s")
            results["filled"] = self._step(viewer)
            overlay.set_outline(True)
            results["outlines"] = self._step(viewer)
        return {f"slice, {name}": times for name, times in results.items()}

    def _step(self, viewer: Any) -> list[float]:
        canvas, times = viewer.window._qt_viewer.canvas.native, []
        pause(0.5)
        for step in range(self.steps):
            start = time.perf_counter()
            viewer.dims.set_current_step(0, (step * 7) % self.shape[0])
            canvas.repaint()
            times.append(1e3 * (time.perf_counter() - start))
            pause(0)
        return times


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Open the workbench, train, stop, close: threads, processes and memory before and after."""

    rounds: int = 100
    out: Path | None = None

    def run(self) -> None:
        left = []
        with tempfile.TemporaryDirectory() as name:
            write_fundus(Path(name), 6, 6, size=128)
            for number in range(self.rounds):
                self._round(Path(name))
                process = psutil.Process()
                facts = threading.active_count(), len(process.children()), process.memory_info().rss >> 20
                left.append(facts)
                if number % 10 in (0, 9):
                    print(
                        f"round {number + 1}: threads {facts[0]}, processes {facts[1]}, memory {facts[2]} MiB",
                        flush=True,
                    )
        keep(self.out, {"threads, processes, MiB": left})
        if any(facts[:2] != left[0][:2] for facts in left):
            sys.exit("threads or processes were left behind")

    def _round(self, folder: Path) -> None:
        with window() as viewer:
            from napari_tlseg.gui.workbench import Workbench

            bench = Workbench(viewer)
            viewer.window.add_dock_widget(bench)
            dock = bench.widget(1)
            dock.session.open(folder)
            wait_for(lambda: dock.session.case is not None)
            dock.plan.form.setValue({"size": 32, "batch": 2, "steps": 1000})
            heard: list[Event] = []
            dock.session.runner.started.connect(lambda task: task.heard.connect(heard.append))
            dock.findChild(QPushButton, "train").click()
            wait_for(lambda: sum(isinstance(event, Stepped) for event in heard) > 3)
            dock.course.task.stop()
            wait_for(lambda: not dock.session.training)


def one_window(frames: Frames, where: Where) -> dict[str, Any]:
    """Intervals at rest and in training, ms, and the training's steps per second."""
    if where == "thread":
        import segmentation_models_pytorch  # noqa: F401  before the window: Triton and Mesa share no LLVM afterwards

    with tempfile.TemporaryDirectory() as name, window() as viewer:
        write_fundus(Path(name, "data"), 8, 8, size=384)
        job = training(frames, Path(name))
        viewer.add_image(np.random.default_rng(0).integers(0, 255, (768, 768, 3), dtype=np.uint8))
        heard: list[float] = []

        def hear(event: Event) -> None:
            if isinstance(event, Stepped):
                heard.append(time.perf_counter())

        begin, ended, close = start_worker(hear) if where == "worker" else start_thread(hear)
        with ticking(viewer, frames.pan) as idle:
            pause(frames.seconds)
        begin(job)
        wait_for(lambda: len(heard) > 2, 120)
        with ticking(viewer, frames.pan) as busy:
            wait_for(lambda: len(heard) >= frames.steps or ended(), 600)
        close()
        steps = (len(heard) - 1) / (heard[-1] - heard[0])
    return {"idle": percentiles(idle), "training": percentiles(busy), "steps_per_s": steps, "steps": len(heard)}


def start_worker(hear: Callable[[Event], object]) -> tuple[Any, Any, Any]:
    from napari_tlseg.gui.runner import Runner

    runner = Runner(None)
    runner.start()
    wait_for(lambda: runner.greeting is not None, 120)

    def close() -> None:
        for task in runner.tasks:
            task.stop()
        runner.close()

    return (lambda job: runner.submit(job, heard=hear)), (lambda: not runner.tasks), close


def start_thread(hear: Callable[[Event], object]) -> tuple[Any, Any, Any]:
    control, threads = Control(), []

    def begin(job: Finetune) -> None:
        threads.append(threading.Thread(target=lambda: [hear(event) for event in job.run(control)]))
        threads[0].start()

    def close() -> None:
        control.stop = True
        threads[0].join()

    return begin, (lambda: not threads[0].is_alive()), close


def headless(frames: Frames) -> dict[str, Any]:
    """The same job from the command line."""
    with tempfile.TemporaryDirectory() as name:
        write_fundus(Path(name, "data"), 8, 8, size=384)
        job = training(frames, Path(name))
        flags = ["--steps", str(job.steps), "--size", str(job.size), "--held-out", "0"]
        command = [sys.executable, "-m", "napari_tlseg.cli", "finetune", str(job.data), "--out", str(job.out), "--json"]
        process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)
        times = [time.perf_counter() for line in process.stdout or () if json.loads(line)["event"] == "Stepped"]
        process.wait()
    return {"steps_per_s": (len(times) - 1) / (times[-1] - times[0])}


def training(frames: Frames, folder: Path) -> Finetune:
    return Finetune(data=folder / "data", out=folder / "run", steps=frames.steps, size=frames.size, held_out=0)


@contextmanager
def window() -> Iterator[Any]:
    import napari

    viewer = napari.Viewer(show=True)
    pause(1)
    yield viewer
    viewer.close()
    pause(0.2)


@contextmanager
def ticking(viewer: Any, pan: bool) -> Iterator[list[float]]:
    """Intervals between the ticks of a 60 Hz timer in the window's thread, ms."""
    from qtpy.QtCore import Qt, QTimer

    ticks: list[float] = []
    intervals: list[float] = []

    def tick() -> None:
        ticks.append(time.perf_counter())
        if pan:
            viewer.scene.camera.center = (384 + 20 * np.sin(len(ticks) / 10), 384)

    timer = QTimer(interval=round(FRAME), timerType=Qt.TimerType.PreciseTimer)
    timer.timeout.connect(tick)
    timer.start()
    yield intervals
    timer.stop()
    intervals.extend(1e3 * np.diff(ticks))


def pause(seconds: float) -> None:
    from qtpy.QtTest import QTest

    QTest.qWait(round(1e3 * seconds))


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        pause(0.001)


def percentiles(values: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50, 99))
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2), "max": round(max(values), 2), "n": len(values)}


def say_rounds(rounds: list[dict[str, list[float]]], out: Path | None) -> None:
    """Of each round its percentiles; of all of them the median and the range."""
    for name in rounds[0]:
        found = [percentiles(each[name]) for each in rounds]
        for key in ("p50", "p99", "max"):
            print(f"{name:30}{key:5}{_spread([each[key] for each in found])} ms")
    keep(out, rounds)


def keep(out: Path | None, results: Any) -> None:
    if out is not None:
        out.write_text(json.dumps(results) + "\n")


def _spread(values: list[float]) -> str:
    return f"{np.median(values):8.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    tyro.cli(
        Annotated[Frames, tyro.conf.subcommand("frames")]
        | Annotated[Clicks, tyro.conf.subcommand("clicks")]
        | Annotated[Slices, tyro.conf.subcommand("slices")]
        | Annotated[Rounds, tyro.conf.subcommand("rounds")],
    ).run()
