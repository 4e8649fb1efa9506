"""Datasets of a few tiny images, drawn in no time, for tests that run whole jobs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHAPE = (48, 64)
FAST = ("--steps", "2", "--size", "32", "--batch", "2", "--device", "cpu", "--precision", "float32")
"""Flags of a training that takes a fraction of a second."""


def disc(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[int, int]]:
    """A bright disc on noise: the image (Y, X), its mask, and the centre (y, x)."""
    rng = np.random.default_rng(seed)
    centre = int(rng.integers(14, 34)), int(rng.integers(14, 50))
    y, x = np.indices(SHAPE)
    mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 81
    image = rng.normal(70, 10, SHAPE) + 110 * mask
    return image.clip(0, 255).astype(np.uint8), mask.astype(np.uint8), centre


def write_eyes(folder: Path, count: int = 8, suffix: str = ".png", channels: int = 1) -> Path:
    """Images, masks of 0 and 255, and clicks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = ["image,y,x"]
    for number in range(count):
        image, mask, (y, x) = disc(number)
        name = f"eye{number}{suffix}"
        Image.fromarray(image if channels == 1 else np.dstack([image] * channels)).save(folder / "images" / name)
        Image.fromarray(255 * mask).save(folder / "masks" / f"eye{number}.png")
        rows.append(f"{name},{y},{x}")
    (folder / "clicks.csv").write_text("\n".join(rows) + "\n")
    return folder


def write_chests(folder: Path, count: int = 6) -> Path:
    """Volumes in HU, stored as (X, Y, Z) = (64, 48, 3) with a slanted affine, of three classes, with rois/."""
    for name in ("images", "masks", "rois"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, lung, (y, x) = disc(number)
        labels = lung.copy()
        labels[y - 3 : y + 3, x - 3 : x + 3] = 2
        volume = np.stack([image.T.astype(np.int16) * 4 - 1000] * 3, axis=-1)
        write_nifti(folder / "images" / f"chest{number}.nii.gz", volume)
        write_nifti(folder / "masks" / f"chest{number}.nii.gz", np.stack([labels.T] * 3, axis=-1))
        write_nifti(folder / "rois" / f"chest{number}.nii.gz", np.ones((64, 48, 3), np.uint8))
    (folder / "dataset.toml").write_text('modality = "ct"\nclasses = ["background", "lung", "infection"]\n')
    return folder


def slanted() -> NDArray[np.float64]:
    """An affine (4, 4) of a tilted gantry: mirrored, spacing 0.8, 0.7 and 5 mm."""
    angle = np.deg2rad(12)
    affine = np.diag([-0.8, 0.7, 5.0, 1.0])
    affine[1:3, 1:3] = [[0.7 * np.cos(angle), -5 * np.sin(angle)], [0.7 * np.sin(angle), 5 * np.cos(angle)]]
    affine[:3, 3] = 100, -120, 40.5
    return affine


def write_nifti(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    """(X, Y, Z)."""
    nib.save(nib.Nifti1Image(array, slanted() if affine is None else affine), path)
