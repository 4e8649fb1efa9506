"""Dataset folders as users have them, good and bad."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_tlseg.data.case import Dataset
from napari_tlseg.data.folder import fingerprint, read_dataset, write_clicks
from napari_tlseg.data.tables import write_painted
from napari_tlseg.errors import InputError

SHAPE = (6, 8)


def picture(path: Path, shape: tuple[int, int] = SHAPE, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)
    return path


def volume(path: Path, flip: bool = False, shift: float = 0.0, axes: tuple[int, int, int] = (0, 1, 2)) -> Path:
    """Stored (Z, Y, X) = (4, 6, 8); with `flip` the first slice is the top one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2.0, -5.0 if flip else 5.0, 1.0])[[*axes, 3]]
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(np.zeros((8, 6, 4), np.int16), affine), path)
    return path


def pages(path: Path, count: int = 3, shape: tuple[int, int] = SHAPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path) as tif:
        for page in range(count):
            tif.write(np.full(shape, page % 2, np.uint8), photometric="minisblack", contiguous=False, metadata=None)
    return path


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg", "c.tif"):
        picture(tmp_path / "images" / name)
    return tmp_path


def names(dataset: Dataset) -> list[str]:
    return [case.name for case in dataset]


def test_a_full_folder(eyes: Path) -> None:
    picture(eyes / "masks" / "a.png")
    picture(eyes / "rois" / "b.tif")
    (eyes / "clicks.csv").write_text("image,y,x\nb.jpg,2.5,7\nc.tif,,\n")
    (eyes / "patients.csv").write_text("image,patient\na.png,Ann\nb.jpg,Ann\nc.tif,Bob\n")
    (eyes / "dataset.toml").write_text('modality = "fundus"\nclasses = ["background", "disc"]\n')
    dataset = read_dataset(eyes)
    assert names(dataset) == ["a", "b", "c"]
    a, b, c = dataset
    assert (a.mask, a.roi, a.click, a.patient) == (eyes / "masks" / "a.png", None, None, "Ann")
    assert (b.mask, b.roi, b.click, b.patient) == (None, eyes / "rois" / "b.tif", (2.5, 7.0), "Ann")
    assert (c.click, c.patient) == ((), "Bob")
    assert [case.geometry.shape for case in dataset] == [SHAPE] * 3
    assert (dataset.modality, dataset.classes, dataset.notes) == ("fundus", ("background", "disc"), ())
    assert dataset.labelled == (a,)
    assert dataset.clicked == (b,)


def test_a_plain_folder_of_images_is_a_dataset_and_what_was_assumed_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "masks" / "a.png")
    (tmp_path / "readme.txt").write_text("hello")
    dataset = read_dataset(tmp_path)
    assert names(dataset) == ["a"]
    assert dataset["a"].mask == tmp_path / "masks" / "a.png"
    assert dataset["a"].patient == "a"
    assert (dataset.modality, dataset.classes) == (None, ("background", "target"))
    assert [sum(word in note for note in dataset.notes) for word in ("patients.csv", "classes")] == [1, 1]


def test_odd_names(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Müller links")
    composed = unicodedata.normalize("NFC", "Müller links")
    picture(tmp_path / "images" / f"{decomposed}.PNG")
    picture(tmp_path / "images" / "眼, 1.JPG")
    volume(tmp_path / "images" / "a.b.NII.GZ")
    picture(tmp_path / "masks" / f"{composed}.png")
    for hidden in ("._a.png", ".DS_Store", ".writing-x.png"):
        (tmp_path / "images" / hidden).write_bytes(b"\0\5\26\7")
        (tmp_path / "masks" / hidden).write_bytes(b"\0\5\26\7")
    (tmp_path / "clicks.csv").write_text(f'image,z,y,x\n{composed}.PNG,,1,2\n"眼, 1.JPG",,3,4\na.b.NII.GZ,0,1,2\n')
    dataset = read_dataset(tmp_path)
    assert names(dataset) == [composed, "a.b", "眼, 1"]
    assert dataset[composed].mask is not None
    assert {case.click for case in dataset} == {(1.0, 2.0), (3.0, 4.0), (0.0, 1.0, 2.0)}


def test_a_table_from_a_spreadsheet_is_read(eyes: Path) -> None:
    (eyes / "clicks.csv").write_bytes(b"\xef\xbb\xbfimage, y, x\r\na.png, 1, 2\r\n,,\r\n")
    assert read_dataset(eyes)["a"].click == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1"),
        ("image;y;x\na.png;1;2\n", "separated by ';'"),
        ("image,x,y\na.png,1,2\n", "line 1: reads 'image,x,y'.*expected image,y,x or image,z,y,x"),
        ("image,y,x\na.png,1\n", "line 2: has 2 columns, expected image,y,x"),
        ("image,y,x\n\na.png,1,two\n", "line 3: x is 'two', expected a number"),
        ("image,y,x\na.png,1,nan\n", "line 2: x is 'nan'"),
        ("image,y,x\na.png,1,\n", "line 2: x is ''"),
        ("image,y,x\na.png,6,0\n", r"line 2: the click \(6, 0\) is outside a.png, which has 6 × 8 pixels"),
        ("image,y,x\na.png,-0.6,0\n", "outside"),
        ("image,y,x\nd.png,1,2\n", "line 2: there is no image 'd.png'"),
        ("image,y,x\na,1,2\n", "there is no image 'a'; expected a file name like 'a.png'"),
        ("image,y,x\na.png,1,2\nb.jpg,1,2\na.png,1,3\n", "line 4: a.png appears twice"),
        ("image,z,y,x\na.png,0,1,2\n", "line 2: a.png is no volume and has no z"),
        ('image,y,x\n"a.png,1,2\n', "line 2"),
    ],
)
def test_malformed_clicks_are_named(eyes: Path, text: str, reason: str) -> None:
    (eyes / "clicks.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=reason) as caught:
        read_dataset(eyes)
    assert caught.value.path == eyes / "clicks.csv"


def test_clicks_that_are_not_text_are_named(eyes: Path) -> None:
    (eyes / "clicks.csv").write_bytes("image,y,x\nMüller.png,1,2\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_dataset(eyes)


@pytest.mark.parametrize("point", ["-0.5,-0.5", "5.5,7.5"])
def test_a_click_on_the_outermost_edge_is_inside(eyes: Path, point: str) -> None:
    (eyes / "clicks.csv").write_text(f"image,y,x\na.png,{point}\n")
    assert read_dataset(eyes)["a"].click == tuple(map(float, point.split(",")))


@pytest.mark.parametrize(
    ("table", "text", "reason"),
    [
        ("patients.csv", "image,patient\nz.png,Ann\n", "line 2: there is no image 'z.png'"),
        ("patients.csv", "image,patient\na.png,Ann\na.png,Bob\n", "line 3: a.png appears twice"),
        ("patients.csv", "image,patient\na.png,\n", "line 2: a.png has no patient"),
        ("patients.csv", "image,name\na.png,Ann\n", "expected image,patient"),
        ("labelled.csv", "image,z\na.png,0\n", "a.png is no volume"),
        ("labelled.csv", "image,z\nct.nii.gz,4\n", "line 2: ct.nii.gz has no slice 4.*from 0 to 3"),
        ("labelled.csv", "image,z\nct.nii.gz,1.5\n", "has no slice 1.5"),
        ("labelled.csv", "image,z\nct.nii.gz,\n", "z is ''"),
        ("labelled.csv", "image,z\nct.nii.gz,1\nct.nii.gz,1\n", "line 3: slice 1 of ct.nii.gz appears twice"),
        ("clicks.csv", "image,y,x\nct.nii.gz,1,2\n", "line 2: ct.nii.gz is a volume and needs a z"),
        ("clicks.csv", "image,z,y,x\nct.nii.gz,4,1,2\n", "outside ct.nii.gz, which has 4 × 6 × 8"),
        ("dataset.toml", "classes = 2", "classes is 2"),
        ("dataset.toml", 'classes = ["background", 1]', "expected a list of names"),
        ("dataset.toml", 'classes = ["disc", "disc"]', "classes is"),
        ("dataset.toml", 'classes = ["background"]', "classes is"),
        ("dataset.toml", "modality = 3", "modality is not text"),
        ("dataset.toml", 'clases = ["background", "disc"]', "does not know clases"),
        ("dataset.toml", '[mask]\nclasses = ["background", "disc"]', "does not know mask"),
        ("dataset.toml", "[images]\nclass = 3", "does not know images.class"),
        ("dataset.toml", 'pages = "slices"', "pages is 'slices'"),
        ("dataset.toml", "modality fundus", "cannot be read"),
    ],
)
def test_other_malformed_files_are_named(eyes: Path, table: str, text: str, reason: str) -> None:
    volume(eyes / "images" / "ct.nii.gz")
    (eyes / table).write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        read_dataset(eyes)
    assert caught.value.path == eyes / table


def test_images_without_a_patient_are_their_own_and_counted(eyes: Path) -> None:
    (eyes / "patients.csv").write_text("image,patient\na.png,Ann\n")
    dataset = read_dataset(eyes)
    assert [case.patient for case in dataset] == ["Ann", "b", "c"]
    assert any("does not name 2 images" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: picture(folder / "images" / "a.jpg"), "a.jpg and a.png are both case 'a'"),
        (lambda folder: picture(folder / "masks" / "a.png", (5, 8)), "5 × 8"),
        (lambda folder: picture(folder / "rois" / "a.png", (8, 6)), "8 × 6"),
        (lambda folder: (picture(folder / "masks" / "a.png"), picture(folder / "masks" / "a.tif")), "same case"),
        (lambda folder: (folder / "images" / "d.png").write_bytes(b"\x89PNG"), "d.png"),
    ],
)
def test_files_that_contradict_each_other_are_named(eyes: Path, make: Callable[[Path], object], reason: str) -> None:
    make(eyes)
    with pytest.raises(InputError, match=reason):
        read_dataset(eyes)


def test_a_mask_elsewhere_in_space_is_refused(tmp_path: Path) -> None:
    volume(tmp_path / "images" / "ct.nii.gz")
    volume(tmp_path / "masks" / "ct.nii")
    assert read_dataset(tmp_path)["ct"].mask == tmp_path / "masks" / "ct.nii"
    volume(tmp_path / "masks" / "ct.nii", shift=3)
    with pytest.raises(InputError, match=r"ct\.nii"):
        read_dataset(tmp_path)


def test_missing_folders_are_named(eyes: Path) -> None:
    for folder, masks in ((eyes / "nowhere", "masks"), (eyes / "images" / "a.png", "masks"), (eyes, "maks")):
        with pytest.raises(InputError, match="no such folder"):
            read_dataset(folder, masks)
    (eyes / "none" / "images").mkdir(parents=True)
    for empty in (eyes / "none", eyes / "none" / "images"):
        with pytest.raises(InputError, match="holds no images"):
            read_dataset(empty)


def test_a_mask_without_an_image_is_told(eyes: Path) -> None:
    picture(eyes / "masks" / "a.png")
    picture(eyes / "masks" / "stray.png", (3, 3))
    dataset = read_dataset(eyes)
    assert len(dataset.labelled) == 1
    assert any("stray.png" in note for note in dataset.notes)


@pytest.mark.parametrize(("flip", "planes"), [(False, (0, 1)), (True, (2, 3))])
def test_painted_slices_are_planes(tmp_path: Path, flip: bool, planes: tuple[int, ...]) -> None:
    for name in ("ct.nii.gz", "other.nii.gz"):
        volume(tmp_path / "images" / name, flip)
        volume(tmp_path / "masks" / name, flip)
    (tmp_path / "labelled.csv").write_text("image,z\nct.nii.gz,1\nct.nii.gz,0\n")
    dataset = read_dataset(tmp_path)
    assert dataset["ct"].planes == planes
    assert dataset["other"].planes == range(4)
    assert any("1 volumes" in note for note in dataset.notes)


def test_painted_slices_of_a_sagittal_volume_count_along_its_axial_axis(tmp_path: Path) -> None:
    volume(tmp_path / "images" / "ct.nii.gz", axes=(2, 1, 0))  # stored x runs from foot to head
    (tmp_path / "labelled.csv").write_text("image,z\nct.nii.gz,7\n")
    assert read_dataset(tmp_path)["ct"].planes == (7,)


def test_pages_are_cases(tmp_path: Path) -> None:
    pages(tmp_path / "images" / "stack.tif", 12)
    pages(tmp_path / "images" / "one.tif", 1)
    pages(tmp_path / "masks" / "stack.tif", 12)
    picture(tmp_path / "masks" / "stack#3.png")
    (tmp_path / "dataset.toml").write_text('pages = "cases"')
    (tmp_path / "clicks.csv").write_text("image,y,x\nstack.tif#3,1,2\none.tif,3,4\n")
    (tmp_path / "patients.csv").write_text("image,patient\nstack.tif,Ann\n")
    dataset = read_dataset(tmp_path)
    assert names(dataset) == ["one", *(f"stack#{page}" for page in range(12))]
    assert [case.page for case in dataset] == [None, *range(12)]
    assert dataset["stack#3"].click == (1.0, 2.0)
    assert {case.patient for case in dataset} == {"one", "Ann"}
    stack, own = dataset["stack#2"], dataset["stack#3"]
    assert stack.mask is not None and stack.page_of(stack.mask) == 2
    assert own.mask == tmp_path / "masks" / "stack#3.png" and own.page_of(own.mask) is None


def test_a_stack_with_fewer_masks_than_pages_is_refused(tmp_path: Path) -> None:
    pages(tmp_path / "images" / "stack.tif", 3)
    pages(tmp_path / "masks" / "stack.tif", 2)
    (tmp_path / "dataset.toml").write_text('pages = "cases"')
    with pytest.raises(InputError, match="no page 2"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("toml", "value", "classes"),
    [
        ("", 2, ("background", "class 1", "class 2")),
        ('classes = ["background", "infection"]', 2, ("background", "class 1", "class 2")),
        ('classes = ["background", "infection"]', 255, ("background", "infection")),
        ('[masks_multiclass]\nclasses = ["none", "glass", "solid"]', 2, ("none", "glass", "solid")),
        ("[masks_multiclass]", 1, ("background", "target")),
    ],
)
def test_classes_of_another_mask_folder(eyes: Path, toml: str, value: int, classes: tuple[str, ...]) -> None:
    picture(eyes / "masks" / "a.png", value=255)
    picture(eyes / "masks_multiclass" / "a.png", value=value)
    (eyes / "dataset.toml").write_text(toml)
    dataset = read_dataset(eyes, "masks_multiclass")
    assert dataset.classes == classes
    assert any("numbered" in note for note in dataset.notes) == ("class 1" in classes)
    assert dataset["a"].mask == eyes / "masks_multiclass" / "a.png"


def test_grey_levels_are_no_classes(eyes: Path) -> None:
    picture(eyes / "soft" / "a.png", value=140)
    with pytest.raises(InputError, match="140"):
        read_dataset(eyes, "soft")


def points(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[float, ...]]:
    return st.just(()) | st.tuples(*(st.floats(-0.5, side - 0.5) for side in shape))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    for name in ('a,"b".png', "ü ;.png"):
        picture(folder / "images" / name)
    volume(folder / "images" / "ct.nii.gz")
    return folder


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_clicks_are_read_back(mixed: Path, data: st.DataObject) -> None:
    all_points = {'a,"b".png': SHAPE, "ü ;.png": SHAPE, "ct.nii.gz": (4, *SHAPE)}
    order = data.draw(st.lists(st.sampled_from(list(all_points)), unique=True))
    clicks = {name: data.draw(points(all_points[name])) for name in order}
    write_clicks(mixed, clicks)
    read = {case.key: case.click for case in read_dataset(mixed) if case.click is not None}
    assert read == clicks


def test_clicks_are_written_in_their_order_and_as_short_as_can_be(eyes: Path) -> None:
    write_clicks(eyes, {"b.jpg": (np.float64(0.1), 3), "a.png": ()})
    assert (eyes / "clicks.csv").read_text() == "image,y,x\nb.jpg,0.1,3.0\na.png,,\n"
    write_clicks(eyes, {})
    assert (eyes / "clicks.csv").read_text() == "image,y,x\n"


def test_clicks_for_a_read_only_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(InputError, match="read-only"):
        write_clicks(folder, {"a.png": (1.0, 2.0)})
    assert list(folder.iterdir()) == []


def test_the_fingerprint_is_of_the_file_and_page(tmp_path: Path) -> None:
    path = pages(tmp_path / "stack.tif")
    (tmp_path / "dataset.toml").write_text('pages = "cases"')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert [fingerprint(case) for case in read_dataset(tmp_path)] == [f"{digest}#{page}" for page in range(3)]
    path.rename(tmp_path / "renamed.tif")
    (tmp_path / "dataset.toml").unlink()
    picture(tmp_path / "a.png")
    assert fingerprint(read_dataset(tmp_path)["a"]) == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "masks", "count", "masked", "clicked", "classes"),
    [
        ("fundus_hei_med", "masks", 169, 0, 169, 2),
        ("fundus_drions_db", "masks", 109, 109, 0, 2),
        ("covid_ct_medseg50", "masks", 50, 50, 0, 2),
        ("covid_ct_medseg50", "masks_multiclass", 50, 50, 0, 3),
        ("covid_ct_pseudo300", "masks", 300, 0, 0, 2),
        ("lung_ct_chest_subset", "masks", 36, 36, 0, 4),
        ("lung_ct_lungsegdb", "masks", 22, 22, 0, 2),
        ("lung_nifti", "masks", 4, 4, 0, 2),
    ],
)
def test_real_folders(
    shared_data: Path, name: str, masks: str, count: int, masked: int, clicked: int, classes: int
) -> None:
    dataset = read_dataset(shared_data / name, masks)
    assert (len(dataset), len(dataset.labelled), len(dataset.clicked)) == (count, masked, clicked)
    assert len(dataset.classes) == classes
    assert len({case.patient for case in dataset}) == (20 if name == "covid_ct_pseudo300" else count)


@pytest.fixture
def damaged(eyes: Path) -> Path:
    """Of the three photographs, b was not copied to its end; there is something of it in every table."""
    (eyes / "images" / "b.jpg").write_bytes(b"")
    (eyes / "clicks.csv").write_text("image,y,x\na.png,1.0,2.0\nb.jpg,2.5,7.0\n")
    (eyes / "patients.csv").write_text("image,patient\na.png,Ann\nb.jpg,Ann\nc.tif,Bob\n")
    return eyes


def test_an_image_that_cannot_be_opened_is_left_out_where_it_is_asked_for(damaged: Path) -> None:
    broken = damaged / "images" / "b.jpg"
    with pytest.raises(InputError, match=r"b\.jpg: is neither PNG nor JPEG"):
        read_dataset(damaged)
    dataset = read_dataset(damaged, unreadable="skip")
    assert names(dataset) == ["a", "c"] and [case.patient for case in dataset] == ["Ann", "Bob"]
    assert list(dataset.left_out) == [broken]
    assert dataset.left_out[broken].startswith(f"Left out: {broken}: is neither PNG nor JPEG inside; export it")
    assert dataset.left_out[broken] in dataset.notes
    (damaged / "clicks.csv").write_text("image,y,x\nd.jpg,2.5,7.0\n")
    with pytest.raises(InputError, match=r"line 2: there is no image 'd\.jpg'"):
        read_dataset(damaged, unreadable="skip")


def test_what_is_known_of_an_image_that_is_left_out_stays(damaged: Path) -> None:
    left_out = read_dataset(damaged, unreadable="skip").left_out
    write_clicks(damaged, {"c.tif": ()}, left_out)
    assert (damaged / "clicks.csv").read_text() == "image,y,x\nc.tif,,\nb.jpg,2.5,7.0\n"
    picture(damaged / "images" / "b.jpg")
    assert read_dataset(damaged)["b"].click == (2.5, 7.0)
    volume(damaged / "images" / "d.nii.gz").write_bytes(b"no volume")
    (damaged / "labelled.csv").write_text("image,z\nd.nii.gz,3\nd.nii.gz,1\n")
    volume(damaged / "images" / "e.nii.gz")
    dataset = read_dataset(damaged, unreadable="skip")
    assert names(dataset) == ["a", "b", "c", "e"]
    write_painted(damaged, {"e.nii.gz": [2]}, dataset.left_out)
    assert (damaged / "labelled.csv").read_text() == "image,z\ne.nii.gz,2\nd.nii.gz,3\nd.nii.gz,1\n"


def test_clicks_of_a_volume_that_is_left_out_keep_their_z(eyes: Path) -> None:
    volume(eyes / "images" / "d.nii.gz").write_bytes(b"no volume")
    (eyes / "clicks.csv").write_text("image,z,y,x\nd.nii.gz,3.0,1.0,2.0\n")
    write_clicks(eyes, {"a.png": (1.0, 2.0)}, read_dataset(eyes, unreadable="skip").left_out)
    assert (eyes / "clicks.csv").read_text() == "image,z,y,x\na.png,,1.0,2.0\nd.nii.gz,3.0,1.0,2.0\n"


def test_a_folder_of_which_no_image_can_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"none of its images can be read; Left out: .*a\.png: is neither"):
        read_dataset(tmp_path, unreadable="skip")
