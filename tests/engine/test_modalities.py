"""Three modalities as channels, as a user has them: from files in one folder to masks on the grid of the first."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_tlseg.cli import main
from napari_tlseg.nets.checkpoint import read_provenance
from tiny import FAST, disc, write_nifti


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stored as (X, Y, Z) = (64, 48, 3) with a slanted affine; the target is bright in the last channel alone."""
    folder = tmp_path_factory.mktemp("data") / "heads"
    (folder / "dataset.toml").parent.mkdir()
    (folder / "dataset.toml").write_text('channels = ["t1", "t2", "flair"]\n')
    for name in ("images", "masks"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        image, mask, _ = disc(number)
        flair = np.stack([image.T.astype(np.int16) * 4] * 3, axis=-1)
        others = [rng.normal(1000, 100, flair.shape).astype(np.int16) for _ in range(2)]
        for channel, values in enumerate((*others, flair)):
            write_nifti(folder / "images" / f"head{number}_{channel:04}.nii.gz", values)
        write_nifti(folder / "masks" / f"head{number}.nii.gz", np.stack([mask.T] * 3, axis=-1))
    return folder


@pytest.mark.parametrize("encoder", ["unet", "unet-3d"])
def test_from_three_modalities_to_masks_on_the_grid_of_the_first(encoder: str, heads: Path, tmp_path: Path) -> None:
    run, masks = tmp_path / "run", tmp_path / "masks"
    assert main(["finetune", str(heads), "--encoder", encoder, "--out", str(run), *FAST]) == 0
    assert read_provenance(run / "model.safetensors").in_channels == 3
    assert main(["predict", str(heads), "--model", str(run), "--out", str(masks), "--device", "cpu"]) == 0
    assert len(list(masks.glob("*.nii.gz"))) == 6
    for number in range(6):
        found = nib.load(masks / f"head{number}.nii.gz")
        first = nib.load(heads / "images" / f"head{number}_0000.nii.gz")
        np.testing.assert_array_equal(found.affine, first.affine)
        assert found.shape == first.shape
    assert list((run / "overlays").iterdir())


def test_a_network_learns_what_the_last_channel_alone_shows(heads: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = ["--steps", "60", "--size", "32", "--batch", "4", "--device", "cpu", "--precision", "float32"]
    assert main(["finetune", str(heads), "--out", str(run), "--learning-rate", "0.01", *steps]) == 0
    rows = (run / "scores.csv").read_text().splitlines()
    place = rows[0].split(",").index("dice")
    assert min(float(row.split(",")[place]) for row in rows[1:]) > 0.6


def test_one_file_is_not_enough(heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["finetune", str(heads), "--out", str(run), *FAST]) == 0
    capsys.readouterr()
    one = heads / "images" / "head0_0000.nii.gz"
    assert main(["predict", str(one), "--model", str(run), "--out", str(tmp_path / "m"), "--device", "cpu"]) == 2
    assert "has 1 channels, the model takes 3" in capsys.readouterr().err
