"""The commands as a user types them, on tiny datasets, from the first flag to the last line."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from napari_tlseg.cli import _one_line as one_line
from napari_tlseg.cli import main
from napari_tlseg.data.run import read_summary
from napari_tlseg.events import Finished
from napari_tlseg.journey import score
from napari_tlseg.telling import finished_lines
from tiny import FAST, SHAPE, slanted, write_chests, write_eyes

Capture = pytest.CaptureFixture[str]
LOOK = re.compile(r"step 2 of 2: loss \S+, (error|dice) .+\n")
"""The one look at the validation cases, as it is said where no bar can be drawn."""


def run(*arguments: str | Path) -> None:
    assert main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_eyes(tmp_path_factory.mktemp("eyes"))


@pytest.fixture(scope="module")
def clicks(eyes: Path) -> Path:
    """A source, pretrained on the clicks."""
    source = eyes / "clicks.safetensors"
    run("pretrain", eyes, "--out", source, *FAST)
    return source


@pytest.fixture(scope="module")
def model(eyes: Path, clicks: Path) -> Path:
    """A run."""
    out = eyes / "run"
    run("finetune", eyes, "--source", clicks, "--lambda", "0.5", "--out", out, *FAST)
    return out


def read_table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def provenance(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        return {**json.loads(metadata["provenance"]), "sha256": metadata["sha256"]}


# what a person reads


def test_pretrain_says_how_far_off_the_centre_is(eyes: Path, tmp_path: Path, capsys: Capture) -> None:
    run("pretrain", eyes, "--out", tmp_path / "s.safetensors", *FAST)
    out, err = capsys.readouterr()
    assert LOOK.fullmatch(err), "a bar is for screens"
    assert "Recipe plain" in out and "patients.csv" in out
    assert f"Trained 2 steps on clicks. The source is in {tmp_path / 's.safetensors'}\n" in out
    assert "\n  validation: median " in out and "\n  held-out: median " in out and " px from the click" in out
    facts = provenance(tmp_path / "s.safetensors")
    assert (facts["task"], facts["encoder"], facts["size"], facts["steps"]) == ("localize", "unet", 32, 2)
    assert len(facts["seen"]) == 6, "training and validation cases"


def test_pretrain_on_masks(eyes: Path, tmp_path: Path, capsys: Capture) -> None:
    run("pretrain", eyes, "--task", "segment", "--out", tmp_path / "s.safetensors", *FAST)
    out = capsys.readouterr().out
    assert "Trained 2 steps on masks." in out and "held-out: Dice 0." in out
    assert provenance(tmp_path / "s.safetensors")["task"] == "segment"


def test_finetune_says_lambda_drift_and_scores(eyes: Path, clicks: Path, tmp_path: Path, capsys: Capture) -> None:
    run("finetune", eyes, "--source", clicks, "--lambda", "inf", "--out", tmp_path / "run", *FAST)
    out, err = capsys.readouterr()
    assert LOOK.fullmatch(err) and ", drift 0, kept" in err
    said = "Trained 2 steps from clicks.safetensors at λ = ∞; its encoder moved by 0.0% (drift 0). "
    assert f"{said}The model is in {tmp_path / 'run'}\n" in out
    assert "\n  held-out: Dice 0." in out and "2 cases, too few to judge" in out
    summary = read_summary(tmp_path / "run")
    assert (summary["lambda"], summary["drift"], summary["reason"]) == ("inf", 0, "done")
    assert summary["source_sha256"] == provenance(clicks)["sha256"]
    assert summary["sha256"] == provenance(tmp_path / "run" / "model.safetensors")["sha256"]
    assert len(summary["cases"]) == 2 and len(summary["validation"]["cases"]) == 1
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"model.safetensors", "job.json", "events.jsonl", "scores.csv", "summary.json", "overlays", "masks"}
    assert len(list((tmp_path / "run" / "overlays").iterdir())) == 3


def test_finetune_without_a_source(eyes: Path, tmp_path: Path, capsys: Capture) -> None:
    run("finetune", eyes, "--out", tmp_path / "run", "--labels", "3", *FAST)
    out = capsys.readouterr().out
    assert "No source: λ has nothing to hold the encoder to." in out
    assert "Trained 2 steps from scratch." in out
    assert "  validation: no case to judge by" in out and "Fewer than 5 masks: there is no validation." in out


def test_finetune_ends_early(eyes: Path, tmp_path: Path, capsys: Capture) -> None:
    """At this rate nothing is learned, so that the second look is no better than the first."""
    flags = (*FAST, "--steps", "500", "--patience", "1", "--learning-rate", "1e-30", "--size", "32")
    run("finetune", eyes, "--out", tmp_path / "run", *flags)
    out = capsys.readouterr().out
    assert "Ended early: no further gain on the validation cases." in out and "Trained 50 steps" in out
    assert read_summary(tmp_path / "run")["reason"] == "early"


def test_predict_and_score(eyes: Path, model: Path, tmp_path: Path, capsys: Capture) -> None:
    masks, table = tmp_path / "masks", tmp_path / "deep" / "scores.csv"
    run("predict", eyes, "--model", model, "--out", masks, "--device", "cpu")
    out, err = capsys.readouterr()
    assert f"8 of 8 masks are in {masks}\n" in out and err == ""
    found = np.asarray(Image.open(masks / "eye3.png"))
    assert found.shape == SHAPE and set(np.unique(found)) <= {0, 255}
    run("score", masks, eyes, "--out", table)
    out, err = capsys.readouterr()
    assert "held-out cases: Dice" in out and f"The scores of each case are in {table}\n" in out and err == ""
    rows = read_table(table)
    assert [row["case"] for row in rows] == [f"eye{number}" for number in range(8)]
    assert rows[0].keys() >= {"case", "part", "class", "dice", "precision", "recall", "hd95"}
    ours = {row["case"]: row["dice"] for row in read_table(model / "scores.csv")}
    assert ours and all(row["dice"] == ours[row["case"]] for row in rows if row["case"] in ours)


def test_the_true_masks_score_one(eyes: Path, tmp_path: Path, capsys: Capture) -> None:
    run("score", eyes / "masks", eyes, "--out", tmp_path / "s.csv")
    assert "Dice 1.000" in capsys.readouterr().out
    rows = read_table(tmp_path / "s.csv")
    assert {(row["dice"], row["precision"], row["recall"], row["hd95"]) for row in rows} == {
        ("1.0", "1.0", "1.0", "0.0")
    }


def test_predict_takes_single_files_and_the_model_file(eyes: Path, model: Path, tmp_path: Path) -> None:
    images = [eyes / "images" / f"eye{number}.png" for number in (1, 2)]
    run("predict", *images, "--model", model / "model.safetensors", "--out", tmp_path, "--device", "cpu")
    assert {path.name for path in tmp_path.iterdir()} == {"eye1.png", "eye2.png", "model.json"}


def test_locate_says_how_many_centres(eyes: Path, clicks: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "deep" / "centres.csv"
    run("locate", eyes, "--model", clicks, "--out", out, "--device", "cpu")
    assert capsys.readouterr() == (f"8 of 8 centres are in {out}\n", "")
    rows = read_table(out)
    assert [row["image"] for row in rows] == [f"eye{number}.png" for number in range(8)]
    assert all(0 <= float(row["y"]) <= 47 and 0 <= float(row["x"]) <= 63 for row in rows)


def test_volumes_of_several_classes_from_end_to_end(tmp_path: Path, capsys: Capture) -> None:
    chests, out, masks = write_chests(tmp_path / "chests"), tmp_path / "run", tmp_path / "masks"
    left_out = np.ones((64, 48, 3), np.uint8)
    left_out[:32] = 0
    roi = chests / "rois" / "chest0.nii.gz"
    nib.save(nib.Nifti1Image(left_out, slanted()), roi)
    run("finetune", chests, "--out", out, *FAST, "--steps", "30", "--learning-rate", "0.01", "--loss", "both")
    said = capsys.readouterr().out
    assert "Recipe ct-lung" in said and "(lung 0." in said and "infection 0." in said
    classes = {(row["case"], row["class"]) for row in read_table(out / "scores.csv")}
    assert len(classes) == 4 and {name for _, name in classes} == {"lung", "infection"}
    run("predict", chests, "--model", out, "--out", masks, "--device", "cpu")
    found = nib.load(masks / "chest0.nii.gz")
    source = nib.load(chests / "images" / "chest0.nii.gz")
    assert found.shape == (64, 48, 3)
    np.testing.assert_array_equal(found.affine, source.affine)
    assert found.header.get_zooms() == source.header.get_zooms()
    labels = np.asarray(found.dataobj)
    assert labels.max() <= 2 and not labels[:32].any(), "nothing outside the region of interest"
    free = np.asarray(nib.load(masks / "chest1.nii.gz").dataobj)
    assert free.any(), "else the line above shows nothing"
    run("score", masks, chests)
    assert "(lung 0." in capsys.readouterr().out


def test_demo_on_a_folder_of_ones_own(tmp_path: Path, capsys: Capture) -> None:
    """Six images: fewer masks outside the held-out cases than the demo asks for."""
    eyes, out = write_eyes(tmp_path / "my eyes", 6), tmp_path / "demo"
    run("demo", "--data", eyes, "--out", out, "--pretrain-steps", "2", "--steps", "2", "--device", "cpu")
    said, err = capsys.readouterr()
    lines = said.splitlines()
    assert len(lines) == len(set(lines)), "each thing is said once"
    assert [line.split(":")[0] for line in err.splitlines()] == ["step 2 of 2"] * 5
    header = next(number for number, line in enumerate(lines) if line.split()[:3] == ["run", "λ", "drift"])
    assert [row.split()[0] for row in lines[header + 1 : header + 5]] == ["scratch", "plain", "between", "frozen"]
    assert lines[header + 4].split()[1:3] == ["∞", "0"]
    assert all(Path(path).is_file() for path in shlex.split(lines[-1])[-2:])
    for name in ("scratch", "plain", "between", "frozen"):
        assert {path.name for path in (out / "runs" / name).iterdir()} >= {"summary.json", "masks", "overlays"}
        assert len(list((out / "runs" / name / "masks").glob("*.png"))) == 6


def test_demo_names_the_mask_of_a_volume(tmp_path: Path, capsys: Capture) -> None:
    chests = write_chests(tmp_path / "chests", 3)
    rows = [f"chest{number}.nii.gz,1,20,30" for number in range(3)]
    (chests / "clicks.csv").write_text("\n".join(["image,z,y,x", *rows]) + "\n")
    flags = ("--pretrain-steps", "1", "--steps", "1", "--device", "cpu")
    run("demo", "--data", chests, "--out", tmp_path / "demo", *flags)
    assert Path(capsys.readouterr().out.split()[-1]).is_file()


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Finished(reason="stopped", out=None),
            ["Stopped, as you asked, before there was anything to keep; nothing was written."],
        ),
        (
            Finished(reason="stopped", out=Path("m"), summary={"masks": 3, "cases": 8}),
            ["Stopped, as you asked.", "3 of 8 masks are in m"],
        ),
        (
            Finished(reason="stopped", out=Path("c.csv"), summary={"centres": 8, "cases": 19}),
            ["Stopped, as you asked.", "8 of 19 centres are in c.csv"],
        ),
        (
            Finished(reason="stopped", out=Path("demo"), summary={"rows": [], "next": []}),
            ["Stopped, as you asked.", "No fine-tuning was through; what was made before is in demo"],
        ),
    ],
)
def test_what_is_said_at_the_end(event: Finished, expected: list[str]) -> None:
    assert list(finished_lines(event)) == expected


def scores(**changes: Any) -> dict[str, Any]:
    nothing = {"dice_mean": None, "dice_sd": None, "precision_mean": None, "hd95_mean": None, "hd95_unit": None}
    return {"cases": [], "seen": [], "scored": 0, "undefined": 0, "classes": {}, **nothing, **changes}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (scores(), "no case to judge by"),
        (scores(seen=["a"]), "1 case seen in an earlier training left out"),
        (scores(undefined=2), "both masks are empty in every case"),
        (
            scores(dice_mean=0.91234, dice_sd=0.05, precision_mean=0.9, hd95_mean=2.04, hd95_unit="mm", scored=12),
            "Dice 0.912 ± 0.050 SD, precision 0.900, HD95 2.0 mm; 12 cases",
        ),
        (scores(dice_mean=0.5, scored=1, seen=["a", "b"]),
         "Dice 0.500; 1 case, too few to judge; 2 cases seen in an earlier training left out"),
        (
            scores(dice_mean=0.5, scored=5, classes={"lung": 0.9, "infection": 0.1, "effusion": None}),
            "Dice 0.500 (lung 0.900, infection 0.100); 5 cases",
        ),
    ],
)  # fmt: skip
def test_scores_in_words(found: dict[str, Any], said: str) -> None:
    event = Finished(reason="done", out=None, summary={"held-out": found})
    assert list(finished_lines(event)) == [f"held-out cases: {said}"]


def test_a_run_in_words() -> None:
    validation = scores(dice_mean=0.8, dice_sd=0.1, scored=6, seen=["a"])
    run = {"lambda": 1e-3, "drift": 0.0531, "source": "clicks.safetensors", "steps": 300, "validation": validation}
    event = Finished(reason="early", out=Path("run"), summary={**scores(dice_mean=0.7, scored=5), **run})
    assert list(finished_lines(event)) == [
        "Ended early: no further gain on the validation cases.",
        "Trained 300 steps from clicks.safetensors at λ = 0.001; its encoder moved by 5.3% (drift 0.0531). "
        "The model is in run",
        "  validation: Dice 0.800 ± 0.100 SD; 6 cases; 1 case seen in an earlier training counted all the same",
        "  held-out: Dice 0.700; 5 cases",
    ]


def test_a_terminal_without_greek_letters(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", screen)
    run("finetune", eyes, "--out", tmp_path / "run", *FAST)
    screen.seek(0)
    assert "No source: ? has nothing" in screen.read()


def test_a_log_gets_a_line_for_each_look(eyes: Path, tmp_path: Path, capsys: Capture) -> None:
    run("finetune", eyes, "--out", tmp_path / "run", *FAST, "--steps", "60")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 25 of 60", "step 50 of 60", "step 60 of 60"]
    assert all("loss 0." in line and "dice 0." in line for line in lines)
    assert lines[0].endswith(", kept")


def test_a_command_leaves_small_numbers_to_the_process_it_ran_in(eyes: Path) -> None:
    run("score", eyes / "masks", eyes)
    score(eyes / "masks", eyes)
    assert np.float32(1e-38) / np.float32(10) > 0


# what a program reads


def events_of(capsys: Capture) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert err == ""
    events = [json.loads(line, parse_constant=pytest.fail) for line in out.splitlines()]
    assert all("event" in event for event in events)
    assert [event["event"] for event in events].index("Finished") == len(events) - 1
    return events


def test_json_of_every_command(eyes: Path, clicks: Path, tmp_path: Path, capsys: Capture) -> None:
    capsys.readouterr()
    run("pretrain", eyes, "--out", tmp_path / "s.safetensors", "--json", *FAST)
    assert {"Noted", "Started", "Visited", "Stepped", "Evaluated"} <= {event["event"] for event in events_of(capsys)}
    run("finetune", eyes, "--source", clicks, "--lambda", "inf", "--out", tmp_path / "run", "--json", *FAST)
    events = events_of(capsys)
    assert [event["step"] for event in events if event["event"] == "Stepped"] == [1, 2]
    assert {event["strength"] for event in events if event["event"] == "Stepped"} == {"inf"}
    assert events[-1]["reason"] == "done" and events[-1]["out"] == str(tmp_path / "run")
    assert events[-1]["summary"] == read_summary(tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert logged == events
    run("predict", eyes, "--model", tmp_path / "run", "--out", tmp_path / "masks", "--json", "--device", "cpu")
    events = events_of(capsys)
    assert events[-1]["summary"] == {"masks": 8, "cases": 8}
    assert all(Path(event["path"]).is_file() for event in events if event.get("path"))
    run("locate", eyes, "--model", clicks, "--out", tmp_path / "centres.csv", "--json", "--device", "cpu")
    events = events_of(capsys)
    assert [event["event"] for event in events] == ["Started", *["Visited"] * 8, "Finished"]
    assert events[-1]["summary"] == {"centres": 8, "cases": 8} and events[-1]["out"] == str(tmp_path / "centres.csv")
    run("score", tmp_path / "masks", eyes, "--json")
    assert events_of(capsys)[-1]["summary"].keys() == {"training", "validation", "held-out"}


def test_json_of_the_demo(tmp_path: Path, capsys: Capture) -> None:
    eyes = write_eyes(tmp_path / "eyes", 6)
    flags = ("--pretrain-steps", "1", "--steps", "1", "--device", "cpu", "--json")
    run("demo", "--data", eyes, "--out", tmp_path / "demo", *flags)
    rows = events_of(capsys)[-1]["summary"]["rows"]
    assert [row["λ"] for row in rows] == ["no source", 0, 1e-3, "inf"]


# the arguments


def test_help_lists_the_commands(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    out, err = capsys.readouterr()
    assert end.value.code == 0 and err == ""
    assert all(name in out for name in ("demo", "pretrain", "finetune", "predict", "locate", "score"))
    assert "estimate" not in out


def test_help_of_a_command(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["finetune", "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert "--lambda FLOAT" in out and "--held-out" in out and "--strength" not in out and "λ" in out
    assert not any(word in out for word in ("{None}", ">>>", "job"))


def test_the_flag_that_keeps_what_is_outside_says_so(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    words = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "--keep-outside Keep also foreground outside the region of interest" in words
    assert "--no-inside" not in words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "",
            "Expected one of demo, pretrain, finetune, path, crossval, efficiency, disagree, student, report, predict, "
            "locate, score, explain, sources, launch; see napari-tlseg --help",
        ),
        ("finetunee x", "Unrecognized options: finetunee, x; see napari-tlseg --help"),
        ("finetune", "Missing from napari-tlseg finetune: DATA, --out PATH; see napari-tlseg finetune --help"),
        ("score a", "Missing from napari-tlseg score: DATA; see napari-tlseg score --help"),
        ("locate x --out y", "Missing from napari-tlseg locate: --model PATH; see napari-tlseg locate --help"),
        (
            "locate x --model m --out y --size 3",
            "locate has no --size (an option of crossval, demo, efficiency, finetune, …); "
            "see napari-tlseg locate --help",
        ),
        ("predict x --out y", "Missing from napari-tlseg predict: --model PATH; see napari-tlseg predict --help"),
        ("finetune x --out", "Missing value for argument '--out'; see napari-tlseg finetune --help"),
        (
            "finetune x --out y --step 3",
            "Unrecognized options: --step, 3; perhaps you meant --steps; see napari-tlseg finetune --help",
        ),
        *(
            (f"finetune x --out y --init{z}", "finetune has no --init (an option of pretrain); "
             "see napari-tlseg finetune --help")
            for z in (" z", "=z")
        ),
        ("finetune x --out y --inits z", "Unrecognized options: --inits, z; see napari-tlseg finetune --help"),
        (
            "predict x --out y --model m --labels 3 --loss dice",
            "predict has no --labels (an option of crossval, efficiency, finetune, path, pretrain, student), "
            "no --loss (an option of crossval, efficiency, finetune, path, pretrain, student); "
            "see napari-tlseg predict --help",
        ),
        ("--init 3", "napari-tlseg has no --init (an option of pretrain); see napari-tlseg --help"),
        ("finetune x --out y --steps many", "--steps cannot be 'many'; see napari-tlseg finetune --help"),
        ("finetune x --out y --size 1.5", "--size cannot be '1.5'; see napari-tlseg finetune --help"),
        (
            "finetune x --out y --solver papr",
            "invalid choice 'papr' for argument '--solver'. Expected one of ('stable', 'paper'); "
            "see napari-tlseg finetune --help",
        ),
        ("finetune x --out y --steps 0", "--steps 0 is not possible; give at least 1"),
        ("finetune x --out y --lambda -1", "--lambda -1.0 is not possible; give 0 or more, or inf"),
        ("finetune x --out y --lambda nan", "--lambda nan is not possible; give 0 or more, or inf"),
        ("finetune x --out y --held-out 1", "--held-out 1.0 is not possible; give a share from 0 to below 1"),
        ("finetune x --out y --solver paper --lambda inf", "--solver paper cannot express --lambda inf; "
         "use --solver stable"),
        ("predict --model m --out y", "no image was named; name a dataset folder or image files"),
        ("finetune x --out y --recipe mri", "there is no recipe 'mri'; "
         "choose one of fundus, ct-lung, ct-lung-3, ct-lung-3-clipped, plain"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_used(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    assert capsys.readouterr() == ("", f"napari-tlseg: {said}\n")
    assert not list(tmp_path.iterdir())


FRAMED = """\
\x1b[31m╭─\x1b[0m\x1b[31m \x1b[0m\x1b[1mUnrecognized options\x1b[0m \x1b[31m──────╮\x1b[0m
\x1b[31m│\x1b[0m Unrecognized options: --step \x1b[31m│\x1b[0m
\x1b[31m│\x1b[0m \x1b[31m────────────────────────────\x1b[0m \x1b[31m│\x1b[0m
\x1b[31m│\x1b[0m Perhaps you meant:           \x1b[31m│\x1b[0m
\x1b[31m│\x1b[0m     \x1b[1m--steps INT\x1b[0m              \x1b[31m│\x1b[0m
\x1b[31m╰──────────────────────────────╯\x1b[0m
"""


def test_a_frame_in_colour_as_on_a_terminal() -> None:
    said = "Unrecognized options: --step; perhaps you meant --steps; see napari-tlseg finetune --help"
    assert one_line(FRAMED, ["finetune"]) == said


# processes


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_in_another_process(eyes: Path, tmp_path: Path) -> None:
    def sha256(name: str, seed: int) -> str:
        out = tmp_path / name
        command = ["finetune", str(eyes), "--out", str(out), "--seed", str(seed), *FAST, "--steps", "5"]
        done = subprocess.run([sys.executable, "-m", "napari_tlseg.cli", *command], capture_output=True, text=True)
        assert done.returncode == 0 and re.fullmatch(r"step 5 of 5: .+\n", done.stderr)
        return str(read_summary(out)["sha256"])

    assert sha256("one", 3) == sha256("two", 3) != sha256("other", 4)


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(eyes: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "napari_tlseg.cli", "score", str(eyes / "masks"), str(eyes), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0
