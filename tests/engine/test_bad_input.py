"""What a user can get wrong: exit code 2, one line with the file, the reason and a way out, and nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from napari_tlseg.cli import main
from napari_tlseg.data.folder import read_dataset
from napari_tlseg.data.split import assign
from tiny import FAST, slanted, write_chests, write_eyes, write_nifti

Capture = pytest.CaptureFixture[str]
Break = Callable[[Path], object]
TRAIN = " ".join(FAST)
FINETUNE = f"finetune eyes --out new/run {TRAIN}"
PRETRAIN = f"pretrain eyes --out new/s.safetensors {TRAIN}"
PREDICT = "predict eyes --model run --out new/masks --device cpu"
SCORE = "score masks eyes --out new/scores.csv"
DEMO = "demo --data eyes --out new/demo --pretrain-steps 1 --steps 1 --device cpu"
CHESTS = f"finetune chests --out new/run {TRAIN}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good datasets, a source, a run and its masks, as if the split had not been drawn yet."""
    root = tmp_path_factory.mktemp("template")
    write_eyes(root / "eyes")
    write_chests(root / "chests")
    command("pretrain", root / "eyes", "--out", root / "source.safetensors", *FAST)
    command("finetune", root / "eyes", "--source", root / "source.safetensors", "--out", root / "run", *FAST)
    command("predict", root / "eyes", "--model", root / "run", "--out", root / "masks", "--device", "cpu")
    (root / "eyes" / "split.csv").unlink()
    return root


def command(*arguments: object) -> None:
    assert main(list(map(str, arguments))) == 0


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the template to spoil, and to be in."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for folder in (path for path in tmp_path.rglob("*") if path.is_dir()):
        folder.chmod(0o755)


def tree(root: Path) -> dict[Path, bytes | None]:
    """Everything below a folder, with the bytes of the files."""
    return {path: path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


# how to spoil it


def nothing(_: Path) -> None:
    """The command alone is wrong."""


def truncated(name: str) -> Break:
    def spoil(root: Path) -> None:
        path = root / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def written(name: str, text: str | bytes) -> Break:
    return lambda root: (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def removed(*names: str) -> Break:
    def spoil(root: Path) -> None:
        for name in names:
            shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return spoil


def locked(root: Path) -> None:
    (root / "locked").mkdir(mode=0o555)


def picture(name: str, array: np.ndarray) -> Break:
    return lambda root: Image.fromarray(array.astype(np.uint8)).save(root / name)


def volume(name: str, change: Callable[[np.ndarray], np.ndarray], shift: float = 0.0) -> Break:
    """A NIfTI file anew, its voxels changed and its origin moved by `shift` mm."""

    def spoil(root: Path) -> None:
        affine = slanted()
        affine[0, 3] += shift
        write_nifti(root / name, change(np.asarray(nib.load(root / name).dataobj)), affine)

    return spoil


def with_nan(voxels: np.ndarray) -> np.ndarray:
    voxels = voxels.astype(np.float32)
    voxels[5, 6, 1] = np.nan
    return voxels


def all_masks_empty(root: Path) -> None:
    for path in (root / "eyes" / "masks").iterdir():
        Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)


def one_case(root: Path) -> None:
    for path in (*(root / "eyes" / "images").iterdir(), *(root / "eyes" / "masks").iterdir()):
        if path.stem != "eye0":
            path.unlink()
    (root / "eyes" / "clicks.csv").write_text("image,y,x\neye0.png,20,20\n")


def one_patient(root: Path) -> None:
    rows = [f"eye{number}.png,Ann" for number in range(8)]
    (root / "eyes" / "patients.csv").write_text("\n".join(["image,patient", *rows]))


def cut_tiff(root: Path) -> None:
    (root / "eyes" / "clicks.csv").unlink()
    image = root / "eyes" / "images" / "eye3.png"
    Image.open(image).save(image.with_suffix(".tif"))
    image.unlink()
    truncated("eyes/images/eye3.tif")(root)


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("run-by-the-pickle",)


def evil(root: Path) -> None:
    torch.save({"weight": Code()}, root / "evil.pth")


def foreign(root: Path) -> None:
    save_file({"weight": np.zeros(3, np.float32)}, root / "foreign.safetensors")


def tampered(root: Path) -> None:
    path = root / "source.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def coloured(root: Path) -> None:
    path = root / "eyes" / "images" / "eye6.png"
    Image.open(path).convert("RGB").save(path)


def twice(root: Path) -> None:
    path = root / "eyes" / "images" / "eye6.png"
    Image.open(path).save(path.with_suffix(".tif"))


WHOLE = np.zeros((48, 64))
CASES: dict[str, tuple[str, Break, tuple[str, ...]]] = {
    # folders
    "finetune a missing folder": (FINETUNE.replace("eyes", "nowhere"), nothing, ("nowhere: there is no such folder",)),
    "pretrain a missing folder": (PRETRAIN.replace("eyes", "nowhere"), nothing, ("nowhere: there is no such folder",)),
    "predict a missing folder": (PREDICT.replace("eyes", "nowhere"), nothing, ("nowhere: does not exist; name",)),
    "score a missing folder": (SCORE.replace("eyes", "nowhere"), nothing, ("nowhere: there is no such folder",)),
    "score missing masks": (SCORE.replace("masks", "nowhere"), nothing, ("nowhere: there is no such", "predict")),
    "demo on a missing folder": (DEMO.replace("eyes", "nowhere"), nothing, ("nowhere: there is no such folder",)),
    "a file for a folder": (FINETUNE.replace("eyes", "eyes/clicks.csv"), nothing, ("clicks.csv: there is no such",)),
    "no images": (FINETUNE.replace("eyes", "empty"), lambda root: (root / "empty").mkdir(), ("empty: holds no",)),
    "another masks folder": (f"{FINETUNE} --masks more", nothing, ("eyes/more: there is no such folder", "--masks")),
    "finetune without masks": (FINETUNE, removed("eyes/masks"), ("eyes: has no masks; add one",)),
    "score without masks": (SCORE, removed("eyes/masks"), ("eyes: has no masks",)),
    "demo without masks": (DEMO, removed("eyes/masks"), ("eyes: needs clicks and masks", "paint")),
    "pretrain without clicks": (PRETRAIN, removed("eyes/clicks.csv"), ("eyes: has no clicks; add one",)),
    "an image twice": (FINETUNE, twice, ("eyes/images: eye6.png and eye6.tif are both case 'eye6'; rename",)),
    "too many labels": (f"{FINETUNE} --labels 60", nothing, ("eyes: 60 masks were asked for, 6 are there", "--labels")),
    # masks
    "a mask of another size": (FINETUNE, picture("eyes/masks/eye2.png", np.zeros((40, 64))),
                               ("eyes/masks/eye2.png: is 40 × 64 pixels, but its image is 48 × 64; export",)),
    "a mask of another affine": (CHESTS, volume("chests/masks/chest2.nii.gz", np.array, 2.5),
                                 ("chests/masks/chest2.nii.gz: has the affine", "export the mask on the grid")),
    "a mask with another value": (FINETUNE, picture("eyes/masks/eye2.png", WHOLE + 7),
                                  ("eyes/masks/eye2.png: holds the value 7, but there are 2 classes", "correct")),
    "a mask volume with another value": (CHESTS, volume("chests/masks/chest1.nii.gz", lambda mask: mask + 1),
                                         ("chests/masks/chest1.nii.gz: holds the value 3", "correct")),
    "a colour picture for a mask": (FINETUNE, picture("eyes/masks/eye2.png", np.arange(9216).reshape(48, 64, 3)),
                                    ("eyes/masks/eye2.png: is a colour picture, not a mask; save",)),
    "all masks empty": (FINETUNE, all_masks_empty, ("eyes: all training masks are empty; paint",)),
    "one case": (FINETUNE, one_case, ("eyes: there is nothing to hold out, only one case has a mask", "--held-out 0")),
    "one case clicked": (PRETRAIN, one_case, ("eyes: there is nothing to hold out, only one case has a click",)),
    "one case for the demo": (DEMO, one_case, ("eyes: there is nothing to hold out",)),
    "one patient": (FINETUNE, one_patient, ("eyes: there is nothing to hold out, only cases of one patient have",)),
    # tables
    "a click outside": (PRETRAIN, written("eyes/clicks.csv", "image,y,x\neye1.png,48,3\n"),
                        ("eyes/clicks.csv: line 2: the click (48, 3) is outside eye1.png, which has 48 × 64 pixels",)),
    "a click for no image": (PRETRAIN, written("eyes/clicks.csv", "image,y,x\nsunset.png,1,3\n"),
                             ("eyes/clicks.csv: line 2: there is no image 'sunset.png'; expected a file name like",)),
    "clicks without a header": (PRETRAIN, written("eyes/clicks.csv", "eye1.png,4,3\n"),
                                ("eyes/clicks.csv: line 1:", "expected image,y,x or image,z,y,x")),
    "clicks with semicolons": (FINETUNE, written("eyes/clicks.csv", "image;y;x\neye1.png;4;3\n"),
                               ("eyes/clicks.csv: line 1:", "separated by ';'", "by commas")),
    "a click that is no number": (PRETRAIN, written("eyes/clicks.csv", "image,y,x\neye1.png,4,right\n"),
                                  ("eyes/clicks.csv: line 2: x is 'right', expected a number",)),
    "a click that lacks a number": (PRETRAIN, written("eyes/clicks.csv", "image,y,x\neye1.png,4\n"),
                                    ("eyes/clicks.csv: line 2: has 2 columns, expected image,y,x",)),
    "clicks that are no text": (PRETRAIN, written("eyes/clicks.csv", b"\xff\xfe\x00i"),
                                ("eyes/clicks.csv: is not UTF-8 text; save it",)),
    "patients of no image": (FINETUNE, written("eyes/patients.csv", "image,patient\nx.png,Ann\n"),
                             ("eyes/patients.csv: line 2: there is no image 'x.png'",)),
    "a part of no name": (FINETUNE, written("eyes/split.csv", "case,part\neye1,test\n"),
                          ("eyes/split.csv: line 2: 'test' is no part; expected training",)),
    "broken settings": (FINETUNE, written("eyes/dataset.toml", "modality = fundus"),
                        ("eyes/dataset.toml: cannot be read", "expected lines like")),
    # images
    "a truncated PNG": (FINETUNE, truncated("eyes/images/eye2.png"), ("eyes/images/eye2.png: cannot be read", "again")),
    "a truncated PNG to learn clicks": (PRETRAIN, truncated("eyes/images/eye2.png"), ("eye2.png: cannot be read",)),
    "a truncated PNG to predict": (PREDICT, truncated("eyes/images/eye7.png"), ("eye7.png: cannot be read",)),
    "a truncated PNG mask": (FINETUNE, truncated("eyes/masks/eye2.png"), ("eyes/masks/eye2.png: cannot be read",)),
    "a truncated PNG mask to score": (SCORE, truncated("masks/eye7.png"), ("masks/eye7.png: cannot be read", "again")),
    "a truncated PNG mask in the demo": (DEMO, truncated("eyes/masks/eye2.png"), ("eye2.png: cannot be read",)),
    "a truncated TIFF": (FINETUNE, cut_tiff, ("eyes/images/eye3.tif: cannot be read", "again")),
    "a truncated NIfTI": (CHESTS, truncated("chests/images/chest4.nii.gz"), ("chest4.nii.gz: cannot be read", "again")),
    "a truncated NIfTI mask": (CHESTS, truncated("chests/masks/chest4.nii.gz"), ("masks/chest4.nii.gz: cannot be",)),
    "a truncated region": (CHESTS, truncated("chests/rois/chest4.nii.gz"), ("rois/chest4.nii.gz: cannot be read",)),
    "text for a PNG": (FINETUNE, written("eyes/images/eye5.png", "hello"), ("eye5.png: is neither PNG nor JPEG",)),
    "an empty file": (PREDICT, written("eyes/images/eye5.png", ""), ("eyes/images/eye5.png: is neither PNG nor JPEG",)),
    "an image of another kind": (PREDICT.replace("eyes", "eyes/clicks.csv"), nothing,
                                 ("eyes/clicks.csv: is of a kind that cannot be used; use one of .png",)),
    "NaN in a volume": (CHESTS, volume("chests/images/chest3.nii.gz", with_nan), ("images/chest3.nii.gz: ", "NaN")),
    "a 4-D volume": (CHESTS, volume("chests/images/chest3.nii.gz", lambda voxels: np.stack([voxels] * 2, -1)),
                     ("images/chest3.nii.gz: has 4 dimensions (64 × 48 × 3 × 2); export",)),
    "grey and colour images": (FINETUNE, coloured, ("eyes/images/eye6.png: has 3 channels", "use images of one kind")),
    "colour images for a grey model": (PREDICT, coloured, ("eye6.png: has 3 channels, the model takes 1;",)),
    # weights
    "a source that is not there": (f"{FINETUNE} --source s.safetensors", nothing, ("s.safetensors: there is no such",)),
    "a truncated source": (f"{FINETUNE} --source source.safetensors", truncated("source.safetensors"),
                           ("source.safetensors: cannot be read as a model: it is damaged", "give a")),
    "a source that was changed": (f"{FINETUNE} --source source.safetensors", tampered,
                                  ("source.safetensors: its weights were changed after they were saved", "give a")),
    "a source without a record": (f"{FINETUNE} --source foreign.safetensors", foreign,
                                  ("foreign.safetensors: does not say which encoder it holds; name it with",)),
    "a source of another encoder": (f"{FINETUNE} --source source.safetensors --encoder resnet18", nothing,
                                    ("source.safetensors: source holds encoder unet, you asked for resnet18; ask",)),
    "an encoder of no name": (f"{FINETUNE} --encoder unnet", nothing, ("unnet",)),
    "weights that hold code": (f"{FINETUNE} --source evil.pth --encoder resnet18", evil,
                               ("evil.pth: cannot be read as weights", "holds code, which is never run; download",)),
    "first weights that hold code": (f"{PRETRAIN} --init evil.pth --encoder resnet18", evil, ("evil.pth: cannot be",)),
    "weights of an unnamed encoder": (f"{FINETUNE} --source evil.pth", evil, ("evil.pth: does not say", "--encoder")),
    "a truncated model": (PREDICT, truncated("run/model.safetensors"), ("run/model.safetensors: cannot be read",)),
    "a model that finds no masks": (PREDICT.replace("run", "source.safetensors"), nothing,
                                    ("source.safetensors: holds a localizer", "fine-tune it first")),
    "a run without a model": (PREDICT, removed("run/model.safetensors"), ("run/model.safetensors: there is no such",)),
    # what is written
    "a run that exists": (f"finetune eyes --out run {TRAIN}", nothing, ("run: already holds a run;", "--overwrite")),
    "a source that exists": (f"pretrain eyes --out source.safetensors {TRAIN}", nothing,
                             ("source.safetensors: exists already", "--overwrite")),
    "masks that exist": (PREDICT.replace("new/masks", "masks"), nothing,
                         ("masks/eye0.png: 8 of the masks exist already", "--overwrite")),
    "a folder of other things": (f"finetune eyes --out chests --overwrite {TRAIN}", nothing,
                                 ("chests: is not empty and not a run folder; choose",)),
    "a file where the run should be": (f"finetune eyes --out eyes/clicks.csv/run {TRAIN}", nothing,
                                       ("eyes/clicks.csv", "choose another folder")),
    "a source with no ending": (f"pretrain eyes --out source {TRAIN}", nothing, ("source: ", ".safetensors")),
    "scores that exist": (SCORE.replace("new/scores.csv", "eyes/clicks.csv"), nothing,
                          ("eyes/clicks.csv: exists already; choose another name or add --overwrite",)),
    "masks into the true ones": (f"{PREDICT.replace('new', 'eyes')} --overwrite", nothing,
                                 ("eyes/masks: is where the true masks are", "choose another --out")),
    "masks of one image into the true ones": (PREDICT.replace("eyes", "eyes/images/eye1.png").replace("new", "eyes"),
                                              nothing, ("eyes/masks: is where the true masks are",)),
    "scores into a folder": (SCORE.replace("new/scores.csv", "run"), nothing, ("run: is a folder; name a file",)),
    "a locked folder for a source": (PRETRAIN.replace("new", "locked"), locked, ("locked: cannot be written to;",)),
    "a locked folder for a run": (FINETUNE.replace("new", "locked"), locked, ("locked/run: cannot be written to;",)),
    "a locked folder for masks": (PREDICT.replace("new", "locked"), locked, ("locked/masks: cannot be written to;",)),
    "a locked folder for scores": (SCORE.replace("new", "locked"), locked, ("locked: cannot be written to;",)),
    "a locked folder for the demo": (DEMO.replace("new", "locked"), locked, ("locked/demo: cannot be written to;",)),
    # masks to score
    "no mask of any case": (SCORE.replace("masks", "run"), nothing, ("run: holds no mask for any case;",)),
    "a predicted mask of another size": (SCORE, picture("masks/eye4.png", np.zeros((40, 64))),
                                         ("masks/eye4.png: is 40 × 64 pixels",)),
    "a predicted mask with another value": (SCORE, picture("masks/eye4.png", WHOLE + 9),
                                            ("masks/eye4.png: holds the value 9",)),
    # flags
    "a negative λ": (f"{FINETUNE} --lambda -0.5", nothing, ("--lambda -0.5 is not possible; give 0 or more",)),
    "λ that is no number": (f"{FINETUNE} --lambda nan", nothing, ("--lambda nan is not possible; give 0 or more",)),
    "a device that is not there": (f"{FINETUNE} --device cuda:99", nothing, ("'cuda:99' cannot be used here; leave",)),
    "cleaning by less than nothing": (f"{PREDICT} --smallest -3", nothing, ("smallest must be 0 or more",)),
}  # fmt: skip


def check(
    place: Path, code: int, out: str, err: str, needles: tuple[str, ...], before: dict[Path, bytes | None]
) -> None:
    """It failed as it should: one line, and everything as it was."""
    assert code == 2, out + err
    assert err.startswith("napari-tlseg: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert not [needle for needle in needles if needle not in err], err
    assert "Trained" not in out and "are in" not in out and "Finished" not in out and "\r" not in out
    after = tree(place)
    assert after.keys() == before.keys()
    assert after == before


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, place: Path, capsys: Capture) -> None:
    arguments, spoil, needles = CASES[name]
    spoil(place)
    before = tree(place)
    code = main(arguments.split())
    check(place, code, *capsys.readouterr(), needles, before)


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize("part", ["training", "validation", "held-out"])
def test_a_bad_file_is_found_before_training(part: str, folder: str, place: Path, capsys: Capture) -> None:
    parts = assign(read_dataset(place / "eyes"), seed=0)
    case = next(name for name, found in parts.items() if found == part)
    truncated(f"eyes/{folder}/{case}.png")(place)
    before = tree(place)
    code = main([*FINETUNE.split(), "--json"])
    out, err = capsys.readouterr()
    check(place, code, out, err, (f"eyes/{folder}/{case}.png: cannot be read",), before)
    assert {json.loads(line)["event"] for line in out.splitlines()} <= {"Noted", "Started", "Visited"}


def test_a_spoilt_rerun_leaves_the_earlier_run_as_it_was(place: Path, capsys: Capture) -> None:
    truncated("eyes/masks/eye2.png")(place)
    before = tree(place)
    code = main(f"finetune eyes --out run --overwrite {TRAIN}".split())
    check(place, code, *capsys.readouterr(), ("eyes/masks/eye2.png: cannot be read",), before)


def test_the_template_is_good(place: Path) -> None:
    """Else the tests above would show nothing."""
    for arguments in (FINETUNE, PRETRAIN, PREDICT, SCORE, DEMO, CHESTS.replace("new", "newer")):
        assert main(arguments.split()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a truncated PNG", "a 4-D volume", "weights that hold code"])
def test_bad_input_in_a_process_of_its_own(name: str, place: Path) -> None:
    """Where libraries may write to the streams behind Python's back, and warn as they are used to."""
    arguments, spoil, needles = CASES[name]
    spoil(place)
    before = tree(place)
    command = [sys.executable, "-m", "napari_tlseg.cli", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    check(place, done.returncode, done.stdout, done.stderr, needles, before)


@pytest.mark.parametrize("words", [PRETRAIN, FINETUNE, PREDICT, SCORE, DEMO])
def test_an_image_that_cannot_be_opened_is_skipped_where_it_is_asked_for(
    words: str, place: Path, capsys: Capture
) -> None:
    written("eyes/images/eye5.png", "hello")(place)
    assert main([*words.split(), "--unreadable", "skip"]) == 0
    out, err = capsys.readouterr()
    assert "Left out: eyes/images/eye5.png: is neither PNG nor JPEG" in out + err
