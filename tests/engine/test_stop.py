"""Ctrl-C, twice, and a power cut: what is kept, and what is not left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from napari_tlseg import cli
from napari_tlseg.data.run import read_summary
from napari_tlseg.events import Evaluated, Event, Noted, Started, Stepped, Visited
from napari_tlseg.nets.checkpoint import load
from tiny import FAST, write_eyes

Capture = pytest.CaptureFixture[str]
When = Callable[[Event], bool]
SLOW = ("--steps", "5000", "--size", "128", "--batch", "8", "--device", "cpu", "--precision", "float32")
"""Steps of some tenths of a second, so that a signal falls into one of them."""


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return write_eyes(tmp_path / "eyes")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def steps(run: Path) -> int:
    """How many steps events.jsonl tells of."""
    lines = (run / "events.jsonl").read_text().splitlines()
    return sum(json.loads(line)["event"] == "Stepped" for line in lines)


# in this process: the signal comes at one certain event


def interrupt(monkeypatch: pytest.MonkeyPatch, when: When, times: int = 1) -> list[Event]:
    """Ctrl-C at the first event for which `when` holds; returns the list that all events will be in."""
    told: list[Event] = []
    tell = cli.Teller.tell

    def tell_and_press(self: cli.Teller, event: Event) -> None:
        told.append(event)
        tell(self, event)
        if when(event) and sum(map(when, told)) == 1:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cli.Teller, "tell", tell_and_press)
    return told


def run(*arguments: str | Path) -> int:
    return cli.main([str(argument) for argument in arguments])


def at_step(number: int) -> When:
    return lambda event: isinstance(event, Stepped) and event.step == number


def test_a_stop_ends_training_within_one_step(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    told = interrupt(monkeypatch, at_step(5))
    before = signal.getsignal(signal.SIGINT)
    assert run("finetune", eyes, "--out", tmp_path / "run", *FAST, "--steps", "500") == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert max(event.step for event in told if isinstance(event, Stepped)) <= 6
    out, err = capsys.readouterr()
    assert "Stopping after this step; what is done so far is kept." in err and err.count("\n") == 1
    assert "Stopped, as you asked.\n" in out and "The model is in" in out and "held-out: not scored" in out
    summary = read_summary(tmp_path / "run")
    assert summary["reason"] == "stopped" and summary["steps"] in (5, 6)
    checkpoint = load(tmp_path / "run" / "model.safetensors")
    assert checkpoint.sha256 == summary["sha256"] and checkpoint.provenance.steps == summary["steps"]


def test_a_stop_after_a_look_keeps_the_best_model(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = interrupt(monkeypatch, at_step(27))
    assert run("finetune", eyes, "--out", tmp_path / "run", *FAST, "--steps", "500") == 0
    (look,) = (event for event in told if isinstance(event, Evaluated))
    assert load(tmp_path / "run" / "model.safetensors").provenance.scores == look.scores


def test_a_stop_while_pretraining_keeps_the_source(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    interrupt(monkeypatch, at_step(3))
    assert run("pretrain", eyes, "--out", tmp_path / "s.safetensors", *FAST, "--steps", "500") == 0
    out = capsys.readouterr().out
    assert "Stopped, as you asked.\n" in out and "The source is in" in out
    assert load(tmp_path / "s.safetensors").provenance.steps in (3, 4)


@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_a_stop_while_reading_leaves_nothing(
    command: str, eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = set(tmp_path.rglob("*"))
    told = interrupt(monkeypatch, lambda event: isinstance(event, Visited))
    assert run(command, eyes, "--out", tmp_path / "new" / "it.safetensors", *FAST) == 0
    assert sum(isinstance(event, Visited) for event in told) == 1
    assert "before there was anything to keep; nothing was written" in capsys.readouterr().out
    assert set(tmp_path.rglob("*")) == before


def test_a_stop_while_reading_brings_the_replaced_run_back(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("finetune", eyes, "--out", tmp_path / "run", *FAST)
    assert run(*flags) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    interrupt(monkeypatch, lambda event: isinstance(event, Visited))
    assert run(*flags, "--overwrite", "--seed", "1") == 0
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_stop_while_scoring_keeps_the_model(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    interrupt(monkeypatch, lambda event: isinstance(event, Started) and event.stage == "score")
    assert run("finetune", eyes, "--out", tmp_path / "run", *FAST) == 0
    assert "held-out: not scored" in capsys.readouterr().out
    load(tmp_path / "run" / "model.safetensors")
    assert read_summary(tmp_path / "run")["steps"] == 2


def test_a_stop_while_predicting_keeps_whole_masks(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert run("finetune", eyes, "--out", tmp_path / "run", *FAST) == 0
    told = interrupt(monkeypatch, lambda event: isinstance(event, Visited) and event.path is not None)
    assert run("predict", eyes, "--model", tmp_path / "run", "--out", tmp_path / "masks", "--device", "cpu") == 0
    written = [event.path for event in told if isinstance(event, Visited) and event.path]
    assert written == list((tmp_path / "masks").glob("*.png"))
    assert f"Stopped, as you asked.\n1 of 8 masks are in {tmp_path / 'masks'}\n" in capsys.readouterr().out


def test_a_stop_of_the_demo_shows_what_is_done(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    demo = ("demo", "--data", eyes, "--out", tmp_path / "demo", "--device", "cpu")
    flags = ("--pretrain-steps", "2", "--steps", "2")
    interrupt(monkeypatch, lambda event: isinstance(event, Noted) and "λ = 0 " in event.text)
    assert run(*demo, *flags) == 0
    _, end = capsys.readouterr().out.split("Stopped, as you asked.\n")
    assert [line.split()[0] for line in end.splitlines()[:2]] == ["run", "scratch"] and "plain" not in end
    assert names(tmp_path / "demo" / "runs") == {"scratch"}


def test_a_second_stop_ends_at_once_and_leaves_nothing_half_made(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    told = interrupt(monkeypatch, at_step(5), times=2)
    assert run("finetune", eyes, "--out", tmp_path / "run", *FAST, "--steps", "500") == 130
    assert told[-1] == next(event for event in told if at_step(5)(event))
    assert capsys.readouterr().err.splitlines()[-1].startswith("napari-tlseg: stopped at once")
    assert not (tmp_path / "run").exists()


# in a process of its own: real signals, whenever they come


@contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "napari_tlseg.cli", *map(str, arguments), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], event: str, **facts: object) -> None:
    """Read on until the event comes."""
    assert process.stdout is not None
    for line in process.stdout:
        found = json.loads(line)
        if found["event"] == event and facts.items() <= found.items():
            return
    pytest.fail(f"{event} never came")


@pytest.mark.slow
def test_ctrl_c_stops_within_one_step_and_keeps_what_was_learned(eyes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with started("finetune", eyes, "--out", out, *SLOW) as process:
        wait_for(process, "Stepped", step=2)
        process.send_signal(signal.SIGINT)
        taken = steps(out)
        said, complaint = process.communicate(timeout=60)
    assert process.returncode == 0, complaint
    assert steps(out) <= taken + 2
    last = json.loads(said.splitlines()[-1])
    assert (last["event"], last["reason"]) == ("Finished", "stopped")
    assert complaint.count("\n") == 1 and "Stopping after this step" in complaint
    assert load(out / "model.safetensors").sha256 == read_summary(out)["sha256"]
    assert read_summary(out)["reason"] == "stopped"


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(eyes: Path, tmp_path: Path) -> None:
    with started("finetune", eyes, "--out", tmp_path / "run", *SLOW, "--size", "256", "--batch", "3") as process:
        wait_for(process, "Stepped", step=1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None and "press" in process.stderr.readline().lower()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == "napari-tlseg: stopped at once; what was unfinished is not kept\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_kill_leaves_a_model_that_loads_and_a_run_that_can_be_replaced(eyes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with started("finetune", eyes, "--out", out, *FAST, "--steps", "5000") as process:
        wait_for(process, "Evaluated", kept=True)
        wait_for(process, "Stepped")
        process.kill()
        process.communicate()
    assert load(out / "model.safetensors").provenance.steps >= 25
    assert "summary.json" not in names(out)
    (out / ".writing-x1y2-model.safetensors").write_bytes(b"the start of a mod")  # as a kill in mid-write leaves it
    assert run("predict", eyes, "--model", out, "--out", tmp_path / "masks", "--device", "cpu") == 0
    assert run("finetune", eyes, "--out", out, *FAST) == 2, "not without --overwrite"
    assert run("finetune", eyes, "--out", out, *FAST, "--overwrite") == 0
    assert read_summary(out)["steps"] == load(out / "model.safetensors").provenance.steps == 2
    whole = {"model.safetensors", "job.json", "events.jsonl", "scores.csv", "summary.json", "overlays", "masks"}
    assert names(out) - {".writing-x1y2-model.safetensors"} == whole
