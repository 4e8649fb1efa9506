"""The path of λ as a command, and what its folder holds."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from napari_tlseg import journey
from napari_tlseg.cli import main
from napari_tlseg.data.run import read_summary
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Reached, Stepped
from napari_tlseg.learn.objectives import Segment
from napari_tlseg.nets.checkpoint import read_provenance
from napari_tlseg.studies.jobs import LambdaPath, parse_strengths
from napari_tlseg.studies.path import read_path
from tiny import FAST, write_eyes

STEPS = ("--steps", "6", "--warm", "0.5", "--size", "32", "--batch", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a source and a path."""
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 12)
    assert main(["pretrain", str(root), "--out", str(root / "clicks.safetensors"), *FAST]) == 0
    assert main(["path", *arguments(root, root / "path"), "--lambdas", "inf,0.01,0", "--final-look", *STEPS]) == 0
    return root


def arguments(root: Path, out: Path) -> list[str]:
    return [str(root), "--source", str(root / "clicks.safetensors"), "--out", str(out)]


def test_every_strength_is_kept_scored_and_drawn_from_the_source(eyes: Path) -> None:
    stages, between = read_path(eyes / "path")
    assert [float(stage["strength"]) for stage in stages] == [math.inf, 0.01, 0.0]
    drifts = [stage["drift"] for stage in stages]
    assert drifts[0] == 0 < drifts[1] < drifts[2]
    source, frozen = load_file(eyes / "clicks.safetensors"), between.at(math.inf)
    encoder = [name for name in source if name.startswith("encoder.")]
    assert encoder and all(torch.equal(source[name], frozen[name]) for name in encoder)
    rows = list(csv.DictReader((eyes / "path" / "path" / "scores.csv").read_text().splitlines()))
    assert {(row["lambda"], row["part"]) for row in rows} == {
        (λ, part) for λ in ("inf", "0.01", "0.0") for part in ("validation", "held-out")
    }


def test_the_runs_own_model_is_that_of_the_recommended_strength(eyes: Path) -> None:
    summary, (stages, between) = read_summary(eyes / "path"), read_path(eyes / "path")
    chosen = float(summary["lambda"])
    own = load_file(eyes / "path" / "model.safetensors")
    assert all(torch.equal(own[name], tensor) for name, tensor in between.at(chosen).items())
    assert read_provenance(eyes / "path" / "model.safetensors").strength == chosen
    at = next(stage for stage in stages if float(stage["strength"]) == chosen)
    assert summary["validation"]["dice_mean"] == at["scores"]["dice_mean"]
    assert f"λ = {'∞' if math.isinf(chosen) else f'{chosen:g}'}" in summary["recommendation"]
    assert main(["predict", str(eyes), "--model", str(eyes / "path"), "--out", str(eyes / "found")]) == 0


def test_the_encoder_moves_at_every_further_strength(eyes: Path) -> None:
    """The learning rate of a training that has ended is not the one of the next."""
    _, between = read_path(eyes / "path")
    middle, end = between.at(0.01), between.at(0.0)
    moved = [
        not torch.equal(middle[name], end[name]) for name in middle if "levels" in name and name.endswith("weight")
    ]
    assert all(moved)
    assert read_path(eyes / "path")[0][2]["drift"] > 1e-3


def test_auto_spaces_the_strengths_and_steps_are_counted_through(eyes: Path, tmp_path: Path) -> None:
    job = LambdaPath(
        data=eyes,
        source=eyes / "clicks.safetensors",
        out=tmp_path / "auto",
        count=4,
        steps=4,
        warm=0.5,
        size=32,
        batch=2,
    )
    events: list[Event] = list(job.run())
    reached = [event.strength for event in events if isinstance(event, Reached)]
    assert (
        reached[0] == math.inf and reached[-1] == 0 and reached == sorted(reached, reverse=True) and len(reached) == 4
    )
    assert [event.step for event in events if isinstance(event, Stepped)] == list(range(1, 4 + 4 * 2 + 1))


def test_a_stop_keeps_the_strengths_that_were_reached(eyes: Path, tmp_path: Path) -> None:
    control, out = Control(), tmp_path / "run"
    job = LambdaPath(
        data=eyes,
        source=eyes / "clicks.safetensors",
        out=out,
        strengths=(math.inf, 1.0, 0.0),
        steps=2,
        size=32,
        batch=2,
    )
    for event in job.run(control):
        control.stop = control.stop or (isinstance(event, Reached) and event.strength == 1.0)
        last = event
    assert isinstance(last, Finished) and last.reason == "stopped"
    assert [float(stage["strength"]) for stage in read_path(out)[0]] == [math.inf, 1.0]
    assert read_provenance(out / "model.safetensors").strength in (math.inf, 1.0)


def test_a_stop_before_the_first_strength_leaves_nothing(eyes: Path, tmp_path: Path) -> None:
    control, out = Control(), tmp_path / "run"
    for event in LambdaPath(data=eyes, source=eyes / "clicks.safetensors", out=out, steps=4, size=32).run(control):
        control.stop = control.stop or isinstance(event, Stepped)
    assert event == Finished(reason="stopped", out=None) and not out.exists()


def test_a_failure_on_the_way_leaves_what_was_kept(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    job = LambdaPath(data=eyes, source=eyes / "clicks.safetensors", out=tmp_path / "run", steps=2, size=32, batch=2)
    events = job.run()
    for event in events:
        if isinstance(event, Reached):
            monkeypatch.setattr(Segment, "loss", fail)
            break
    kept = json.loads((tmp_path / "run" / "path" / "path.json").read_text())
    assert [stage["strength"] for stage in kept] == ["inf"]
    with pytest.raises(InputError, match="memory of the GPU is full"):
        list(events)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--lambdas", "1,inf"], "the largest first"),
        (["--lambdas", "1,1"], "name each once"),
        (["--lambdas", "1,-1"], "0 or more"),
        (["--lambdas", "one"], "--lambdas"),
        (["--source", "none"], "needs a source"),
        (["--solver", "paper"], "name the λ"),
        (["--count", "1"], "--count"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    flags: list[str], complaint: str, eyes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["path", *arguments(eyes, tmp_path / "run"), *flags]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_path_is_named(eyes: Path) -> None:
    journey.finetune(eyes, eyes / "plain", steps=2, size=32, batch=2)
    with pytest.raises(InputError, match="plain: holds no path"):
        read_path(eyes / "plain")


def test_lists_of_strengths_are_read_as_they_are_written() -> None:
    assert parse_strengths("inf,1,0.1") == (math.inf, 1.0, 0.1)
    assert parse_strengths("auto") == ()
