"""Tables that are written and read back: painted slices in every orientation, points wherever the table lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_tlseg.data.case import Case
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.tables import read_clicks, read_painted, write_clicks, write_painted
from napari_tlseg.errors import InputError

SHAPE = (4, 5, 6)


def signed(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """An affine whose voxel axes run along the axes `order` of the body, forwards (1) or backwards (-1)."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[list(order)].T * signs
    return affine


def volume(name: str = "ct", affine: np.ndarray | None = None) -> Case:
    geometry = Geometry(shape=SHAPE, spacing=(1.0, 1.0, 1.0), unit="mm", affine=affine)
    return Case(name=name, image=Path(f"images/{name}.nii.gz"), geometry=geometry)


def photo(name: str = "eye") -> Case:
    geometry = Geometry(shape=SHAPE[1:], spacing=(1.0, 1.0))
    return Case(name=name, image=Path(f"images/{name}.png"), geometry=geometry)


AFFINES = st.none() | st.builds(signed, st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3))
FLIPPED = volume(affine=signed((0, 1, 2), (1, 1, -1)))
"""Stored from head to foot: slice 0 is the highest plane."""


@given(affines=st.lists(AFFINES, max_size=3), data=st.data())
def test_what_is_painted_comes_back_as_the_same_planes(
    affines: list[np.ndarray | None], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("volumes")
    cases = [volume(f"ct, {number} ü", affine) for number, affine in enumerate(affines)]
    planes = {
        case.name: data.draw(st.sets(st.integers(0, case.geometry.plane_shape[0] - 1), min_size=1)) for case in cases
    }
    write_painted(folder, {case.key: map(case.geometry.stored_plane, planes[case.name]) for case in cases})
    assert read_painted(folder, cases) == {name: tuple(sorted(found)) for name, found in planes.items()}


def test_painted_slices_are_counted_as_they_are_stored(tmp_path: Path) -> None:
    write_painted(tmp_path, {"ct.nii.gz": [3, np.int64(0), 3]})
    assert (tmp_path / "labelled.csv").read_text() == "image,z\nct.nii.gz,0\nct.nii.gz,3\n"
    assert read_painted(tmp_path, [FLIPPED]) == {"ct": (0, 3)}
    write_painted(tmp_path, {"ct.nii.gz": [0]})
    assert read_painted(tmp_path, [FLIPPED]) == {"ct": (3,)}
    write_painted(tmp_path, {})
    assert read_painted(tmp_path, [FLIPPED]) == {}


def test_a_volume_never_silently_counts_as_painted_throughout(tmp_path: Path) -> None:
    write_painted(tmp_path, {"ct.nii.gz": [1]})
    with pytest.raises(InputError, match=r"labelled.csv: without a painted slice of ct.nii.gz, all of its slices"):
        write_painted(tmp_path, {"ct.nii.gz": []})
    assert read_painted(tmp_path, [volume()]) == {"ct": (1,)}, "the table is as it was"


def test_what_is_painted_in_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(InputError, match="read-only, what is painted cannot be kept"):
        write_painted(folder, {"ct.nii.gz": [1]})
    assert list(folder.iterdir()) == []


def test_clicks_come_back(tmp_path: Path) -> None:
    cases, points = [photo(), volume(), photo("other")], {"eye": (1.25, 5.5), "ct": (3.0, 0.5, 2.0), "other": ()}
    write_clicks(tmp_path, {case.key: points[case.name] for case in cases})
    assert read_clicks(tmp_path, cases) == points
    assert read_clicks(tmp_path / "elsewhere", cases) == {}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("sunset.png,1,2", "line 2: there is no image 'sunset.png'"),
        ("eye.png,5,2", r"line 2: the click \(5, 2\) is outside eye.png"),
        ("eye.png,nan,2", "line 2: y is 'nan'"),
        ("eye.png,1,2\neye.png,1,2", "line 3: eye.png appears twice"),
    ],
)
def test_points_that_cannot_be_are_named(row: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text(f"image,y,x\n{row}\n")
    with pytest.raises(InputError, match=rf"clicks.csv: {reason}"):
        read_clicks(tmp_path, [photo()])
