"""Several files as the channels of one case: registered modalities."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from napari_tlseg.data.case import Image
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.geometry import Geometry
from napari_tlseg.data.images import image_of
from napari_tlseg.data.project import adopt_folder
from napari_tlseg.data.recipes import CT_LUNG, FUNDUS, PLAIN, pick_recipe
from napari_tlseg.errors import InputError
from tiny import slanted, write_nifti

CHANNELS = ("t1", "flair", "t2")


def write_heads(folder: Path, count: int = 3) -> Path:
    """Volumes (X, Y, Z) = (12, 10, 4) of three sequences with ranges of their own, with masks."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.toml").write_text('channels = ["t1", "flair", "t2"]\n')
    rng = np.random.default_rng(0)
    for number in range(count):
        for channel, (low, high) in enumerate(((0, 4000), (100, 200), (-5, 5))):
            values = rng.uniform(low, high, (12, 10, 4))
            kind = np.float32 if channel == 2 else np.int16
            write_nifti(folder / "images" / f"head{number}_{channel:04}.nii.gz", values.astype(kind))
        write_nifti(folder / "masks" / f"head{number}.nii.gz", rng.integers(0, 2, (12, 10, 4)).astype(np.uint8))
    return folder


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return write_heads(tmp_path / "heads")


def test_numbered_files_are_the_channels_of_a_case(heads: Path) -> None:
    (heads / "clicks.csv").write_text("image,z,y,x\nhead1_0000.nii.gz,1,5,6\n")
    dataset = read_dataset(heads)
    assert [case.name for case in dataset] == ["head0", "head1", "head2"] and dataset.channels == CHANNELS
    assert all(case.mask == heads / "masks" / f"{case.name}.nii.gz" for case in dataset)
    case = dataset["head1"]
    assert case.click == (1, 5, 6) and case.key == "head1_0000.nii.gz"
    assert fingerprint(case) == sha256(case.image.read_bytes()).hexdigest()
    image, files = image_of(case), [heads / "images" / f"head1_{number:04}.nii.gz" for number in range(3)]
    assert case.files == tuple(files) and image.modalities and not image.coloured
    assert image.planes.shape == (4, 10, 12, 3) and image.picture.shape == (4, 10, 12, 1)
    for channel, path in enumerate(files):
        np.testing.assert_array_equal(image.planes[..., channel], read_image(path).planes[..., 0])
    np.testing.assert_allclose(image.geometry.affine, slanted(), rtol=1e-6)
    assert "The channels of a case are t1, flair, t2, each with values of its own." in dataset.notes


def test_each_channel_is_scaled_by_itself_and_none_is_made_grey(heads: Path) -> None:
    case = read_dataset(heads)["head0"]
    image = image_of(case)
    assert PLAIN.limits(image).shape == (2, 3) and PLAIN.channels(image) == FUNDUS.channels(image) == 3
    square = next(PLAIN.squares(image, [2], 12))
    for channel, path in enumerate(case.files):
        np.testing.assert_array_equal(square[channel], next(PLAIN.squares(read_image(path), [2], 12))[0])
    assert pick_recipe(read_dataset(heads))[0] is PLAIN
    with pytest.raises(InputError, match="not HU"):
        next(CT_LUNG.squares(image, [0], 12))


@given(st.integers(2, 4), st.integers(0, 99))
def test_a_channel_does_not_depend_on_the_others(channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    array = rng.normal(0, 10.0 ** rng.integers(-3, 4, channels), (6, 7, channels))
    geometry = Geometry(shape=(6, 7), spacing=(1.0, 1.0))
    square = next(PLAIN.squares(Image(array, geometry, modalities=True), [0], 7))
    for channel in range(channels):
        alone = Image(array[..., channel], geometry)
        np.testing.assert_array_equal(square[channel], next(PLAIN.squares(alone, [0], 7))[0])


def moved() -> np.ndarray:
    affine = slanted()
    affine[0, 3] += 1
    return affine


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "these are not the channels of a case; expected head1_0000 (t1), head1_0001"),
        (lambda path: path.rename(path.with_name("head1_0003.nii.gz")), "head1_0003.nii.gz: these are not"),
        (lambda path: path.rename(path.with_name("other.nii.gz")), "these are not the channels of a case; expected"),
        (lambda path: write_nifti(path, np.zeros((12, 10, 5), np.int16)), "head1_0001.nii.gz: is 5 × 10 × 12 pixels, "
         "but its channel head1_0000.nii.gz is 4 × 10 × 12; register the channels of a case"),
        (lambda path: write_nifti(path, np.zeros((12, 10, 4), np.int16), moved()), "but its channel head1_0000.nii.gz "
         "has [-0.8"),
    ],
)  # fmt: skip
def test_channels_that_do_not_belong_together_are_named(heads: Path, spoil: object, said: str) -> None:
    spoil(heads / "images" / "head1_0001.nii.gz")  # type: ignore[operator]
    with pytest.raises(InputError) as error:
        read_dataset(heads)
    assert said in str(error.value)
    dataset = read_dataset(heads, unreadable="skip")
    assert [case.name for case in dataset] == ["head0", "head2"] and any(said in note for note in dataset.notes)


def test_a_channel_in_colour_is_refused(tmp_path: Path) -> None:
    for channel in range(2):
        Pillow.fromarray(np.zeros((5, 6, 3), np.uint8)).save(tmp_path / f"a_{channel:04}.png")
    (tmp_path / "dataset.toml").write_text('channels = ["a", "b"]\n')
    with pytest.raises(InputError, match=r"a_0000\.png: is in colour; save each channel as one grey image"):
        image_of(read_dataset(tmp_path)["a"])


@pytest.mark.parametrize("text", ['channels = ["t1"]', 'channels = "t1"', 'channels = ["a", "a"]'])
def test_a_list_that_is_none_is_refused(heads: Path, text: str) -> None:
    (heads / "dataset.toml").write_text(text + "\n")
    with pytest.raises(InputError, match=r'channels is .*; expected a list of names like \["t1", "flair"\]'):
        read_dataset(heads)


def test_without_a_list_numbered_files_are_cases_and_a_hint_is_given(heads: Path, tmp_path: Path) -> None:
    (heads / "dataset.toml").unlink()
    dataset = read_dataset(heads)
    assert len(dataset) == 9 and any("dataset.toml would say channels" in note for note in dataset.notes)
    for frame in range(20):
        Pillow.fromarray(np.zeros((5, 6), np.uint8)).save(tmp_path / f"film_{frame:04}.png")
    assert not any("channels" in note for note in read_dataset(tmp_path).notes)


def test_a_project_folder_has_all_channels(heads: Path, tmp_path: Path) -> None:
    project = adopt_folder(heads, tmp_path / "project")
    assert image_of(read_dataset(project)["head2"]).array.shape == (4, 10, 12, 3)
    assert len(list((project / "images").iterdir())) == 9
