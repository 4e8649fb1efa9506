"""DICOM in: a folder is a series, in HU, where it lies in the body; and its masks out as NIfTI."""

from __future__ import annotations

import locale
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import imagecodecs
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_tlseg.data.annotations import mask_path, read_mask, write_mask
from napari_tlseg.data.folder import fingerprint, read_dataset
from napari_tlseg.data.formats import case_name, count_pages, read_geometry, read_image, read_labels, write_labels
from napari_tlseg.data.formats.dicom import dicom_files, holds_dicom
from napari_tlseg.errors import InputError

SPACING = (0.7, 0.8, 2.5)
ORIGIN = (-120.5, 30.25, -700.0)
HU = np.random.default_rng(0).integers(-1000, 400, (5, 16, 20)).astype(np.int16)
AXIAL = np.eye(3)


def volume(array: np.ndarray = HU, direction: np.ndarray = AXIAL) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction.ravel().tolist())
    return image


def write(path: Path, image: sitk.Image, tags: dict[str, str], compressor: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    for tag, value in tags.items():
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(f"{path.with_suffix('')}.dcm")
    if compressor:
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
    writer.Execute(image)
    return path.with_suffix(".dcm").rename(path)


def write_slice(path: Path, image: sitk.Image, index: int, series: str = "1.2.3", compressor: str = "") -> Path:
    place = image.TransformIndexToPhysicalPoint((0, 0, index))
    matrix = np.array(image.GetDirection()).reshape(3, 3)
    tags = {
        "0008|0060": "CT",
        "0008|103e": f"thorax {series}",
        "0020|000e": series,
        "0020|0013": str(index),
        "0020|0032": "\\".join(f"{number:.8g}" for number in place),
        "0020|0037": "\\".join(f"{number:.10f}" for number in matrix[:, :2].T.ravel()),
        "0028|1052": "-1024",
        "0028|1053": "1",
    }
    return write(path, image[:, :, index], tags, compressor)


def write_series(folder: Path, image: sitk.Image, skip: tuple[int, ...] = (), **how: str) -> Path:
    """Files whose names are in no order, and without an ending, as they come from a scanner."""
    for index in range(image.GetSize()[2]):
        if index not in skip:
            write_slice(folder / f"IM{index * 7 % 11:04}", image, index, **how)
    return folder


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(InputError) as found:
        read()
    assert found.value.path and found.value.remedy
    return str(found.value)


def ras(image: sitk.Image, i: int, j: int, k: int) -> np.ndarray:
    """Where SimpleITK says a voxel lies, in RAS+."""
    return np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint((i, j, k))


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """Also where a test itself calls GDCM, which sets the locale C."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def test_reading_leaves_the_locale_as_it_was(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "chest", volume())
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    read_image(folder)
    assert locale.getencoding() == "UTF-8"


def test_a_series_is_a_volume_in_hu_where_it_lies(tmp_path: Path) -> None:
    image = volume()
    folder = write_series(tmp_path / "chest", image)
    found = read_image(folder)
    np.testing.assert_array_equal(found.array, HU)
    assert found.array.dtype == np.int16
    assert found.geometry.unit == "mm"
    np.testing.assert_allclose(found.geometry.spacing, SPACING[::-1])
    for index in [(0, 0, 0), (3, 5, 2), (19, 15, 4)]:
        np.testing.assert_allclose(
            nib.affines.apply_affine(found.geometry.affine, index), ras(image, *index), atol=1e-4
        )


def test_the_stored_values_are_not_hu(tmp_path: Path) -> None:
    """Else the tests of HU would pass without the rescaling."""
    path = write_slice(tmp_path / "a.dcm", volume(), 0)
    stored = np.frombuffer(path.read_bytes()[-HU[0].nbytes :], np.int16).astype(int)
    np.testing.assert_array_equal(stored.reshape(HU[0].shape), HU[0] + 1024)


@given(seed=st.integers(0, 10**6), turned=st.integers(0, 23), oblique=st.booleans())
@settings(max_examples=15)
def test_any_orientation(seed: int, turned: int, oblique: bool) -> None:
    turn = Rotation.create_group("O")[turned]
    if oblique:
        turn = Rotation.from_rotvec(np.random.default_rng(seed).uniform(-0.3, 0.3, 3)) * turn
    image = volume(direction=turn.as_matrix())
    with TemporaryDirectory() as folder:
        found = read_image(write_series(Path(folder, "case"), image))
    np.testing.assert_array_equal(found.array, HU)
    for index in [(0, 0, 0), (19, 0, 4), (3, 15, 1)]:
        np.testing.assert_allclose(
            nib.affines.apply_affine(found.geometry.affine, index), ras(image, *index), atol=1e-3
        )


def test_planes_of_a_coronal_series_are_axial(tmp_path: Path) -> None:
    """Rows towards the feet, slices towards the back."""
    coronal = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    planes = read_image(write_series(tmp_path / "case", volume(direction=coronal))).planes
    assert planes.shape == (16, 5, 20, 1)
    np.testing.assert_array_equal(planes[0, :, :, 0], HU[:, -1], "the lowest row of each slice, from front to back")


def test_a_tilted_gantry_leans_the_affine(tmp_path: Path) -> None:
    image = volume()
    for index in range(5):
        image.SetOrigin((ORIGIN[0], ORIGIN[1] + 0.5 * index, ORIGIN[2]))
        write_slice(tmp_path / "case" / f"{index}.dcm", image, index)
    affine = read_geometry(tmp_path / "case").affine
    assert affine is not None
    np.testing.assert_allclose(affine[:3, 2], [0, -0.5, 2.5], atol=1e-6)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_compression(tmp_path: Path, compressor: str) -> None:
    folder = write_series(tmp_path / "case", volume(), compressor=compressor)
    assert all(b"1.2.840.10008.1.2.4." in path.read_bytes() for path in folder.iterdir())
    np.testing.assert_array_equal(read_image(folder).array, HU)


def run_lengths(stored: np.ndarray) -> bytes:
    """RLE of DICOM (PS3.5, annex G): the high bytes, then the low ones, each row as PackBits."""
    planes = [imagecodecs.packbits_encode(part.astype(np.uint8)) for part in (stored >> 8, stored & 255)]
    planes = [part + bytes(len(part) % 2) for part in planes]
    return struct.pack("<16I", 2, 64, 64 + len(planes[0]), *[0] * 13) + b"".join(planes)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [(b"1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode), (b"1.2.840.10008.1.2.5", run_lengths)],
    ids=["JPEG-LS", "RLE"],
)
def test_what_gdcm_reads_but_does_not_write(
    tmp_path: Path, syntax: bytes, encode: Callable[[np.ndarray], bytes]
) -> None:
    """The stream of a JPEG file exchanged for another one."""
    path = write_slice(tmp_path / "a.dcm", volume(), 2, compressor="JPEG")
    header, tag, _ = path.read_bytes().partition(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff")
    stored = HU[2].astype(np.int32) + 1024
    stream = encode(stored.astype(np.uint16))
    stream += bytes(len(stream) % 2)
    item = b"\xfe\xff\x00\xe0"
    pixels = item + struct.pack("<I", 0) + item + struct.pack("<I", len(stream)) + stream
    assert header.count(b"1.2.840.10008.1.2.4.70") == 1 and tag
    header = header.replace(b"1.2.840.10008.1.2.4.70", syntax.ljust(22, b"\0"))
    path.write_bytes(header + tag + pixels + b"\xfe\xff\xdd\xe0" + bytes(4))
    np.testing.assert_array_equal(read_image(path).array[0], HU[2])


@pytest.mark.parametrize("compressor", ["", "JPEG"])
def test_a_multi_frame_file(tmp_path: Path, compressor: str) -> None:
    """Alone, or in a folder."""
    image = volume(direction=Rotation.from_rotvec([0.2, 0, 0]).as_matrix())
    tags = {"0008|0060": "CT", "0028|1052": "-1024", "0028|1053": "1"}
    path = write(tmp_path / "case" / "all.dcm", image, tags, compressor)
    for each in (path, path.parent):
        found = read_image(each)
        np.testing.assert_array_equal(found.array, HU)
        index = (7, 3, 4)
        np.testing.assert_allclose(
            nib.affines.apply_affine(found.geometry.affine, index), ras(image, *index), atol=1e-3
        )


def test_frames_that_run_downwards_are_turned(tmp_path: Path) -> None:
    """Positions count, not the order of the frames in their file."""
    image = volume()
    path = write(tmp_path / "a.dcm", image, {"0008|0060": "CT"})
    data, places = path.read_bytes(), [f"{ORIGIN[2] + 2.5 * index:g}".encode() for index in range(5)]
    for place in places:
        assert data.count(b"\\" + place) == 1
    for place, other in zip(places, "vwxyz", strict=True):
        data = data.replace(b"\\" + place, b"\\" + other.encode() * len(place))
    for place, other in zip(places[::-1], "vwxyz", strict=True):
        data = data.replace(b"\\" + other.encode() * len(place), b"\\" + place)
    path.write_bytes(data)
    found = read_image(path)
    np.testing.assert_array_equal(found.array, HU[::-1])
    np.testing.assert_allclose(nib.affines.apply_affine(found.geometry.affine, (0, 0, 0)), ras(image, 0, 0, 0))


def test_one_slice_is_a_volume_of_one(tmp_path: Path) -> None:
    image = volume()
    path = write_slice(tmp_path / "a.dcm", image, 3)
    found = read_image(path)
    np.testing.assert_array_equal(found.array, HU[3:4])
    np.testing.assert_allclose(nib.affines.apply_affine(found.geometry.affine, (0, 0, 0)), ras(image, 0, 0, 3))
    assert (case_name(path), count_pages(path)) == ("a", 1)


def test_a_photograph_is_a_picture_in_colour(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (10, 12, 3), dtype=np.uint8)
    tags = {"0008|0016": "1.2.840.10008.5.1.4.1.1.77.1.5.1", "0008|0060": "OP"}
    path = write(tmp_path / "eye" / "a.dcm", sitk.GetImageFromArray(colours, isVector=True), tags)
    found = read_image(path.parent)
    np.testing.assert_array_equal(found.array, colours)
    assert (found.geometry.shape, found.geometry.unit, found.geometry.affine) == ((10, 12), "px", None)


def test_the_geometry_decodes_no_pixels(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume(), compressor="JPEG")
    whole = read_geometry(folder)
    for path in folder.iterdir():
        data = path.read_bytes()
        start = data.index(b"\xff\xd8")  # of the JPEG stream
        path.write_bytes(data[:start] + bytes(len(data) - start))
    found = read_geometry(folder)
    assert found.shape == whole.shape == HU.shape
    assert found.affine is not None and whole.affine is not None
    np.testing.assert_array_equal(found.affine, whole.affine)
    assert "IM0" in refused(lambda: read_image(folder))


@pytest.mark.parametrize(("skip", "says"), [((2,), "lacks 1 slice between -697.5 and -692.5 mm"), ((1, 2), "lacks 2")])
def test_a_missing_slice_is_said(tmp_path: Path, skip: tuple[int, ...], says: str) -> None:
    more = np.concatenate([HU, HU])
    folder = write_series(tmp_path / "case", volume(more), skip)
    assert says in refused(lambda: read_geometry(folder))


def test_uneven_slices_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume(), (3, 4))
    image = volume()
    image.SetOrigin((*ORIGIN[:2], ORIGIN[2] + 1.0))
    write_slice(folder / "late", image, 3)
    assert "uneven" in refused(lambda: read_image(folder))


def test_two_phases_in_one_series_are_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume())
    shutil.copy(folder / "IM0003", folder / "again")
    assert "at the same place" in refused(lambda: read_image(folder))


def test_several_series_are_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume())
    write_slice(folder / "scout", volume(), 0, series="9.9")
    message = refused(lambda: read_image(folder))
    assert "'thorax 1.2.3' (5 files)" in message
    assert "'thorax 9.9' (1 files)" in message
    assert "folder of its own" in message


def test_a_scout_in_the_series_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume())
    write_slice(folder / "scout", volume(HU[:, :8]), 0)
    assert "scout" in refused(lambda: read_image(folder))


def test_slices_without_a_place_are_refused(tmp_path: Path) -> None:
    for index in range(3):
        colours = np.full((10, 12, 3), index, np.uint8)
        write(tmp_path / "case" / f"{index}", sitk.GetImageFromArray(colours, isVector=True), {"0020|000e": "1.2"})
    assert "no position" in refused(lambda: read_image(tmp_path / "case"))


@pytest.mark.parametrize("damage", [lambda data: data[:-50], lambda data: data[:400], lambda data: b"nothing"])
def test_a_damaged_file_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes], capfd: pytest.CaptureFixture
) -> None:
    folder = write_series(tmp_path / "case", volume())
    path = folder / "a.dcm"
    path.write_bytes(damage((folder / "IM0003").read_bytes()))
    assert str(path) in refused(lambda: read_geometry(folder))
    assert capfd.readouterr() == ("", ""), "GDCM says nothing by itself"


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume())
    (folder / "notes.txt").write_text("no image")
    (folder / "._IM0000").write_bytes((folder / "IM0000").read_bytes())
    report = b"\x02\x00\x02\x00UI\x1e\x001.2.840.10008.5.1.4.1.1.88.67"
    (folder / "dose").write_bytes(bytes(128) + b"DICM" + report)
    assert len(dicom_files(folder)) == 5
    assert read_image(folder).array.shape == HU.shape


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    assert not holds_dicom(tmp_path)
    assert "without DICOM" in refused(lambda: read_geometry(tmp_path))
    assert "does not exist" in refused(lambda: read_geometry(tmp_path / "no.dcm"))


@pytest.mark.parametrize("turned", [0, 5, 14])
def test_masks_are_nifti_with_exactly_this_geometry(tmp_path: Path, turned: int) -> None:
    direction = (Rotation.from_rotvec([0.1, 0.05, 0]) * Rotation.create_group("O")[turned]).as_matrix()
    image = volume(direction=direction)
    write_series(tmp_path / "images" / "case.1", image)
    dataset = read_dataset(tmp_path)
    (case,) = dataset
    assert (case.name, case.key) == ("case.1", "case.1")
    planes = (case.geometry.to_planes(read_image(case.image).array) > 0).astype(np.uint8)
    path = write_mask(case, planes, tmp_path / "masks", 2)
    assert path == mask_path(case, tmp_path / "masks") == tmp_path / "masks" / "case.1.nii.gz"
    (case,) = read_dataset(tmp_path)
    np.testing.assert_array_equal(read_mask(case, 2), planes)
    mask = nib.load(path)
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T, HU > 0)
    np.testing.assert_allclose(mask.affine, case.geometry.affine, atol=1e-4)
    other = sitk.ReadImage(str(path))
    np.testing.assert_allclose(
        other.TransformIndexToPhysicalPoint((3, 2, 1)), [-1, -1, 1] * ras(image, 3, 2, 1), atol=1e-3
    )


def test_a_dataset_of_series_and_files(tmp_path: Path) -> None:
    write_series(tmp_path / "images" / "b", volume())
    nib.save(nib.Nifti1Image(HU.T, np.eye(4)), tmp_path / "images" / "a.nii.gz")
    (tmp_path / "images" / "empty").mkdir()
    (tmp_path / "clicks.csv").write_text("image,z,y,x\nb,1,2,3\n")
    one, two = read_dataset(tmp_path)
    assert (one.name, two.name, two.click) == ("a", "b", (1, 2, 3))


def test_a_folder_of_series_is_a_dataset(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", volume())
    write_series(tmp_path / "p2", volume(HU + np.int16(1)))
    one, two = read_dataset(tmp_path)
    assert fingerprint(one) != fingerprint(two)
    moved = tmp_path / "other" / "p3"
    for number, path in enumerate(dicom_files(two.image)):
        (moved / str(number)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, moved / f"{9 - number}")
    (copy,) = read_dataset(moved.parent)
    assert fingerprint(copy) == fingerprint(two)


def test_loose_slices_are_no_dataset(tmp_path: Path) -> None:
    write_series(tmp_path / "images", volume())
    assert "folder of its own" in refused(lambda: read_dataset(tmp_path))


def test_no_mask_is_written_as_dicom(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "case", volume())
    geometry = read_geometry(folder)
    labels = np.zeros(geometry.shape, np.uint8)
    target = tmp_path / "m.dcm"
    assert "only read" in refused(lambda: write_labels(target, labels, folder, geometry, 2))
    write_labels(tmp_path / "m.tif", labels, folder, geometry, 2)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif", geometry, 2), labels)
