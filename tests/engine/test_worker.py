"""Jobs in a worker process: real processes, killed, stopped, talked over and abandoned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from odd_jobs import Chatter, Count, Deaf, Inside, Raise, Silent, Unreadable, Unsayable

from napari_tlseg.data.run import read_summary
from napari_tlseg.engine import client as client_module
from napari_tlseg.engine.client import Client, Handle, State, WorkerDied
from napari_tlseg.engine.jobs import Job
from napari_tlseg.engine.messages import Failed
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.errors import InputError
from napari_tlseg.events import Evaluated, Event, Finished, Noted, Stepped
from napari_tlseg.nets.checkpoint import load
from tiny import write_eyes

SMALL = {"size": 32, "batch": 2, "device": "cpu", "precision": "float32"}
LARGE = {**SMALL, "size": 128, "batch": 8, "steps": 5000}
"""Steps of some tenths of a second, so that a word falls into one of them."""
START = 120  # seconds that a worker may take on a busy machine


@pytest.fixture(scope="module", autouse=True)
def path() -> Iterator[None]:
    """The odd jobs are where a worker finds them, and it finds no other help."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.delenv("OMP_WAIT_POLICY")  # which a worker sets by itself
        yield


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of those tests that leave the worker alive."""
    with Client(tmp_path_factory.mktemp("shared") / "logs" / "worker.log") as client:
        client.greeting.result(START)
        yield client


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a source beside it."""
    folder = write_eyes(tmp_path_factory.mktemp("data") / "eyes")
    list(Pretrain(data=(folder,), out=folder.parent / "source.safetensors", steps=2, **SMALL).run())
    return folder


def until(handle: Handle, wanted: Callable[[Event | Failed], bool]) -> Event | Failed:
    """The first event that is wanted, and no waiting beyond the job's end."""
    for event in handle:
        if wanted(event):
            return event
        assert not isinstance(event, Failed), event.traceback
    pytest.fail("it never came")


def at_step(number: int) -> Callable[[Event | Failed], bool]:
    return lambda event: isinstance(event, Stepped) and event.step == number


def last(handle: Handle) -> Event | Failed:
    *_, event = handle
    return event


def failed(handle: Handle) -> Failed:
    event = last(handle)
    assert isinstance(event, Failed)
    return event


def works(client: Client) -> bool:
    event = last(client.submit(Count(steps=2)))
    return isinstance(event, Finished) and event.summary["steps"] == 2


def gone(pid: int) -> bool:
    """Whether the process ends: it may do so between two looks at it."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# jobs


def test_the_worker_says_what_it_can_work_with(client: Client) -> None:
    greeting = client.greeting.result()
    names = [device.name for device in greeting.devices]
    assert "cpu" in names and all(device.label for device in greeting.devices)
    assert bool(greeting.no_gpu) == (names[0] == "cpu")
    assert {"unet", "densenet121"} <= set(greeting.encoders)
    assert {"python", "torch"} <= greeting.versions.keys()


def test_a_job_in_the_worker_is_the_job_in_this_process(client: Client, eyes: Path, tmp_path: Path) -> None:
    def job(name: str) -> Finetune:
        return Finetune(data=eyes, source=eyes.parent / "source.safetensors", out=tmp_path / name, steps=6, **SMALL)

    here = list(job("here").run())
    there = list(client.submit(job("there")))
    assert [event for event in here if isinstance(event, Stepped | Evaluated | Noted)] == [
        event for event in there if isinstance(event, Stepped | Evaluated | Noted)
    ]
    assert list(map(type, here)) == list(map(type, there))
    assert load(tmp_path / "here" / "model.safetensors").sha256 == load(tmp_path / "there" / "model.safetensors").sha256
    assert isinstance(there[-1], Finished) and there[-1].out == tmp_path / "there"


@pytest.mark.slow
def test_strength_moves_within_two_steps_and_a_stop_ends_within_one(client: Client, eyes: Path, tmp_path: Path) -> None:
    source, out = eyes.parent / "source.safetensors", tmp_path / "run"
    handle = client.submit(Finetune(data=eyes, source=source, out=out, strength=0.0, **LARGE))
    until(handle, at_step(3))
    handle.set_strength(8.0)
    moved = until(handle, lambda event: isinstance(event, Stepped) and event.strength == 8.0)
    assert isinstance(moved, Stepped) and moved.step <= 5
    handle.stop()
    rest = list(handle)
    assert sum(isinstance(event, Stepped) for event in rest) <= 2
    assert isinstance(rest[-1], Finished) and rest[-1].reason == "stopped"
    assert read_summary(out)["lambda_history"] == [[1, 0.0], [moved.step, 8.0]]
    assert load(out / "model.safetensors").provenance.strength == 8.0


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_an_impossible_strength_is_refused_here(client: Client, strength: float) -> None:
    handle = client.submit(Count())
    with pytest.raises(ValueError, match="between 0 and ∞"):
        handle.set_strength(strength)
    handle.stop()
    assert isinstance(last(handle), Finished)


def test_jobs_run_one_after_the_other_and_one_that_waits_can_be_stopped(client: Client) -> None:
    heard: list[tuple[str, Event | Failed]] = []
    first = client.submit(Count(), lambda event: heard.append(("first", event)))
    second = client.submit(Count(), lambda event: heard.append(("second", event)))
    third = client.submit(Count(steps=1))
    second.set_strength(3.0)
    second.stop()
    first.stop()
    assert [type(event) for event in third] == [Stepped, Finished]
    assert [name for name, _ in heard] == ["first"] * (len(heard) - 1) + ["second"]
    assert heard[-1][1] == Finished(reason="stopped", out=None)
    with pytest.raises(RuntimeError, match="go to its callback"):
        next(iter(first))
    for handle in (first, second, third):  # long through: nothing to be said to
        handle.stop()
    assert list(third) == []


def test_an_error_in_a_callback_is_reported_and_ends_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def tell(event: Event | Failed) -> None:
        raise KeyError(type(event).__name__)

    client.submit(Count(steps=2), tell)
    assert works(client)
    assert [str(each.exc_value) for each in reported] == ["'Stepped'", "'Stepped'", "'Finished'"]


def test_numbers_too_small_to_matter_are_flushed_and_waiting_threads_sleep(client: Client) -> None:
    assert until(client.submit(Inside()), lambda event: True) == Noted(text="PASSIVE, 0.0")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal for one process")
def test_ctrl_c_in_the_terminal_is_left_to_the_client(client: Client) -> None:
    handle = client.submit(Count())
    until(handle, at_step(1))
    os.kill(client.pid or 0, signal.SIGINT)
    until(handle, at_step(5))
    handle.stop()
    assert isinstance(last(handle), Finished)


def test_what_a_job_prints_is_logged_and_disturbs_nothing(client: Client) -> None:
    assert list(client.submit(Chatter())) == [Noted(text="read ''"), Finished(reason="done", out=None)]
    log = client.log.read_text()
    assert log.count("through the descriptor") == 1000
    assert "through Python\n" in log and "through a child" in log


# failures


def test_bad_input_arrives_as_its_sentence(client: Client, tmp_path: Path) -> None:
    job = Finetune(data=tmp_path / "nowhere", out=tmp_path / "run")
    with pytest.raises(InputError) as here:
        list(job.run())
    there = failed(client.submit(job))
    assert (there.kind, there.sentence) == ("input", str(here.value))
    assert works(client)


FAILURES: dict[str, tuple[Job, str, str]] = {
    "a RuntimeError": (
        Raise(error=RuntimeError("shapes do not\nmatch")),
        "defect",
        "(RuntimeError: shapes do not match)",
    ),
    "an exit": (Raise(error=SystemExit(3)), "defect", "(SystemExit: 3)"),
    "memory": (Raise(error=MemoryError()), "memory", "the computer's memory is full; close"),
    "GPU memory": (
        Raise(error=RuntimeError("CUDA out of memory. Tried")),
        "memory",
        "memory of the GPU is full; close",
    ),
    "the disk": (Raise(error=OSError(28, "No space left", "model")), "input", "model: no space left; free"),
    "no end": (Silent(), "defect", "Silent ended without saying so"),
    "an unreadable job": (Unreadable(), "defect", "(LookupError: no such job)"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_arrives_and_the_next_job_runs(name: str, client: Client) -> None:
    job, kind, sentence = FAILURES[name]
    there = failed(client.submit(job))
    assert there.kind == kind and sentence in there.sentence and "\n" not in there.sentence
    assert "Traceback" in there.traceback and there.traceback in client.log.read_text()
    assert works(client)


def test_an_event_that_cannot_be_sent_is_a_failure_of_its_job(client: Client, tmp_path: Path) -> None:
    there = failed(client.submit(Unsayable(out=tmp_path / "out")))
    assert there.kind == "defect" and "pickle" in there.traceback
    assert (tmp_path / "out").read_text() == "closed"
    assert works(client)


def test_a_job_that_cannot_be_sent_is_refused_here(client: Client) -> None:
    class Local(Count):
        pass

    with pytest.raises((AttributeError, TypeError), match="Local"):
        client.submit(Local())


# the worker's end


@pytest.mark.slow
def test_a_killed_worker_is_told_within_a_second_and_replaced(client: Client, eyes: Path, tmp_path: Path) -> None:
    """And another client's job goes on."""
    died: list[Failed] = []
    bystander = client.submit(Count())
    until(bystander, at_step(1))
    with Client(tmp_path / "log", died.append) as mortal:
        running = mortal.submit(Finetune(data=eyes, out=tmp_path / "run", steps=5000, **SMALL))
        waiting = mortal.submit(Count())
        until(running, lambda event: isinstance(event, Evaluated) and event.kept)
        until(running, lambda event: isinstance(event, Stepped))
        first = mortal.pid
        psutil.Process(first).kill()
        killed = time.monotonic()
        ends = [failed(running), failed(waiting)]
        assert time.monotonic() - killed < 1
        assert {end.kind for end in ends} == {"died"} and "signal 9" in ends[0].sentence
        assert mortal.state is State.DIED and died == []
        assert load(tmp_path / "run" / "model.safetensors").provenance.steps >= 25

        again = Finetune(data=eyes, out=tmp_path / "run", steps=2, overwrite=True, **SMALL)
        assert isinstance(last(mortal.submit(again)), Finished)
        assert mortal.state is State.RUNNING and mortal.pid != first
        psutil.Process(mortal.pid).kill()  # at rest
        deadline = time.monotonic() + 1
        while not died and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [end.kind for end in died] == ["died"]
    bystander.stop()
    assert isinstance(last(bystander), Finished)


FRAMES = (
    "import struct, sys; sys.stdout.buffer.write(struct.pack('>Q', 3) + b'xyz'); sys.stdout.flush(); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        ("print('not what was agreed upon')", ""),
        (FRAMES, "UnpicklingError"),
        ("import os; os.close(1); input()", ""),
    ],
    ids=["no start", "chatter", "nonsense", "silence"],
)
def test_a_worker_that_cannot_work_is_told_of_once(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "COMMAND", (sys.executable, "-c", code))
    died: list[Failed] = []
    (tmp_path / "log").write_text("of an earlier day\n")
    with Client(tmp_path / "log", died.append) as client:
        with pytest.raises(WorkerDied, match="ended unexpectedly"):
            client.greeting.result(30)
        deadline = time.monotonic() + 1
        while not died and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [end.kind for end in died] == ["died"]
        assert words in died[0].traceback and "earlier day" not in died[0].traceback
        assert failed(client.submit(Count())).kind == "died", "started anew, it dies again"
    assert (tmp_path / "log").read_text().startswith("of an earlier day\n")


def test_a_log_that_has_become_long_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "COMMAND", (sys.executable, "-c", "raise SystemExit('the end')"))
    log = tmp_path / "log"
    for day in ("first", "second", "third"):
        log.write_text(day + (client_module.LONG - len(day) + (day != "first")) * " ")
        with Client(log) as client, pytest.raises(WorkerDied):
            client.greeting.result(30)
    assert log.read_text() == "the end\n"
    assert (tmp_path / "log.1").read_text().startswith("third")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]


ABANDONED = """
import sys, time
from pathlib import Path
from odd_jobs import Deaf, Saving
from napari_tlseg.engine.client import Client
folder = Path(sys.argv[1])
client = Client(folder / "log")
client.start()
next(iter(client.submit(Deaf() if sys.argv[2] == "Deaf" else Saving(out=folder / "saved"))))
print(client.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("job", ["Saving", "Deaf"])
def test_the_worker_ends_with_its_client(job: str, tmp_path: Path) -> None:
    """A job that heeds the stop saves what it has; one that does not is not waited for."""
    command = [sys.executable, "-c", ABANDONED, str(tmp_path), job]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        worker = int(viewer.stdout.readline())
        assert psutil.pid_exists(worker)
        viewer.kill()
    assert gone(worker)
    assert (tmp_path / "saved").exists() == (job == "Saving")


@pytest.mark.slow
def test_close_is_bounded_where_the_worker_hears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PATIENCE", 0.3)
    client = Client(tmp_path / "log")
    client.start()
    handle = client.submit(Deaf())
    until(handle, lambda event: isinstance(event, Noted))
    if sys.platform != "win32":
        os.kill(client.pid or 0, signal.SIGSTOP)  # which defers a termination too
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 3
    assert failed(handle).sentence.startswith("the job was ended because napari-tlseg was closed")
    assert client.state is State.OFF and client.pid is None


@pytest.mark.slow
def test_close_stops_the_job_and_keeps_what_it_learned(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the user took the place of a module')")
    monkeypatch.chdir(tmp_path)
    with Client(tmp_path / "log") as client:
        handle = client.submit(Finetune(data=eyes, out=tmp_path / "run", steps=5000, **SMALL))
        until(handle, at_step(3))
    end = last(handle)
    assert isinstance(end, Finished) and end.reason == "stopped"
    assert load(tmp_path / "run" / "model.safetensors").sha256 == end.summary["sha256"]
    client.close()  # once more
    for use in (lambda: client.submit(Count()), lambda: client.greeting):
        with pytest.raises(RuntimeError, match="start the client first"):
            use()


def test_close_from_a_callback_is_refused(client: Client) -> None:
    refused: list[str] = []

    def tell(event: Event | Failed) -> None:
        try:
            client.close()
        except RuntimeError as error:
            refused.append(str(error))

    client.submit(Count(steps=1), tell)
    assert works(client)
    assert len(refused) == 2 and "another thread" in refused[0]


@pytest.mark.slow
def test_five_rounds_leave_nothing_behind(tmp_path: Path) -> None:
    me, client = psutil.Process(), Client(tmp_path / "log")
    left = []
    for _ in range(5):
        client.start()
        handle = client.submit(Count())
        until(handle, at_step(2))
        handle.stop()
        assert isinstance(last(handle), Finished)
        client.close()
        files = me.num_fds() if hasattr(me, "num_fds") else me.num_handles()
        left.append((me.children(recursive=True), threading.enumerate(), files))
    assert all(each == left[0] for each in left), left


def test_the_client_imports_neither_torch_nor_a_window() -> None:
    code = "import sys, napari_tlseg.engine.client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert "napari_tlseg" in names and not names & {"torch", "torchvision", "monai", "napari", "qtpy"}
