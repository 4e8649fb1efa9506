"""Where a network looked, written in voxels of the file and read back as a box of planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.data.case import Case
from napari_tlseg.data.crops import Crop, keep_crop, read_crop
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.letterbox import Box

PHOTO = Case(name="eye", image=Path("eye.png"), geometry=Geometry(shape=(50, 60), spacing=(1.0, 1.0)))


def volume(order: tuple[int, ...], signs: tuple[int, ...]) -> Case:
    """Whose voxel axes run along the axes `order` of the body, forwards (1) or backwards (-1)."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)].T * signs
    geometry = Geometry(shape=(14, 15, 16), spacing=(1.0,) * 3, unit="mm", affine=affine)
    return Case(name="ct ü", image=Path("ct.nii.gz"), geometry=geometry)


@given(
    case=st.just(PHOTO) | st.builds(volume, st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3)),
    ends=st.tuples(st.integers(0, 13), st.integers(0, 13)),
    box=st.builds(Box, st.integers(-20, 60), st.integers(-20, 60), st.integers(1, 80), st.integers(1, 80)),
)
def test_a_crop_comes_back(
    case: Case, ends: tuple[int, int], box: Box, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, last = (0, 0) if case is PHOTO else sorted(ends)
    folder, crop = tmp_path_factory.mktemp("masks"), Crop(planes=range(first, last + 1), box=box)
    keep_crop(folder, case, crop)
    assert read_crop(folder, case) == crop


def test_the_table_is_of_voxels_as_they_are_stored(tmp_path: Path) -> None:
    """From head to foot, k downwards: plane 2 of 14 is the slice 11."""
    case = volume((0, 1, 2), (-1, -1, -1))
    keep_crop(tmp_path, case, Crop(planes=range(2, 5), box=Box(1, -2, 3, 4)))
    keep_crop(tmp_path, PHOTO, Crop(planes=range(1), box=Box(5, 6, 7, 8)))
    assert (tmp_path / "crops.csv").read_text(encoding="utf-8").splitlines() == [
        "case,z_first,z_last,y_first,y_last,x_first,x_last",
        "ct ü,9,11,1,3,-2,1",
        "eye,,,5,11,6,13",
    ]


def test_of_a_whole_image_nothing_is_said(tmp_path: Path) -> None:
    keep_crop(tmp_path, PHOTO, None)
    assert not (tmp_path / "crops.csv").exists() and read_crop(tmp_path, PHOTO) is None
    keep_crop(tmp_path, PHOTO, Crop(planes=range(1), box=Box(5, 6, 7, 8)))
    keep_crop(tmp_path, PHOTO, None)
    assert read_crop(tmp_path, PHOTO) is None, "another model has looked since"
