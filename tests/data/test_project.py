"""A project folder of images that lie in a folder which cannot be written to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_tlseg.data.annotations import read_mask, write_mask
from napari_tlseg.data.folder import read_dataset, write_clicks
from napari_tlseg.data.project import adopt_folder, new_project
from napari_tlseg.errors import InputError
from tiny import write_chests, write_eyes


def locked(folder: Path) -> Path:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    return locked(write_eyes(tmp_path / "eyes", count=3))


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links, as on Windows"])
@pytest.mark.parametrize("write", [write_eyes, write_chests])
def test_all_that_was_known_is_known_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, write: Callable[..., Path]
) -> None:
    folder = write(tmp_path / "data", count=3)
    (folder / "patients.csv").write_text(f"image,patient\n{read_dataset(folder).cases[0].key},p1\n")
    (folder / "runs" / "one").mkdir(parents=True)
    before = contents(locked(folder))
    if not links:
        monkeypatch.setattr(os, "symlink", lambda *_, **__: (_ for _ in ()).throw(OSError("not permitted")))
    project = adopt_folder(folder, tmp_path / "project")
    ours, theirs = read_dataset(project), read_dataset(folder)
    assert [case.name for case in ours] == [case.name for case in theirs]
    assert [(case.click, case.patient, case.painted) for case in ours] == [
        (case.click, case.patient, case.painted) for case in theirs
    ]
    assert ours.classes == theirs.classes and not (project / "runs").exists()
    for case in ours:
        np.testing.assert_array_equal(read_mask(case, 3), read_mask(theirs[case.name], 3))
        assert (case.roi is None) == (theirs[case.name].roi is None)
    case = ours.cases[0]
    write_mask(case, np.ones(case.geometry.plane_shape, np.uint8), project / "masks", len(ours.classes))
    write_clicks(project, {case.key: ()})
    assert read_mask(read_dataset(project)[case.name], 3).all() and read_dataset(project)[case.name].click == ()
    assert contents(folder) == before, "nothing was written to the folder, nor through a link"


def test_a_plain_folder_of_images(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "thumbnails").mkdir(parents=True)
    for name in ("b.png", "a.png", "thumbnails/a.png"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(plain / name)
    (plain / "notes.txt").write_text("not an image")
    project = adopt_folder(locked(plain), tmp_path / "project")
    assert sorted(path.name for path in (project / "images").iterdir()) == ["a.png", "b.png"]
    assert len(read_dataset(project)) == 2


def test_a_project_that_was_made_before_is_kept(tmp_path: Path, eyes: Path) -> None:
    project = adopt_folder(eyes, tmp_path / "project")
    write_clicks(project, {"eye1.png": (1.0, 2.0)})
    (eyes / "images").chmod(0o755)
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(eyes / "images" / "new.png")
    assert adopt_folder(eyes, project) == project
    again = read_dataset(project)
    assert [case.name for case in again] == ["eye0", "eye1", "eye2", "new"], "a new image is there too"
    assert again["eye1"].click == (1.0, 2.0) and len(again.clicked) == 1


@pytest.mark.parametrize("kind", ["itself", "another project", "not empty"])
def test_a_folder_that_cannot_be_the_project_is_left_alone(tmp_path: Path, eyes: Path, kind: str) -> None:
    other = eyes
    if kind == "another project":
        other = write_chests(tmp_path / "other", count=1)
    elif kind == "not empty":
        other = tmp_path / "mine"
        other.mkdir()
        (other / "thesis.txt").write_text("mine")
    before = contents(other)
    with pytest.raises(InputError, match=r"choose (a new|another) folder"):
        adopt_folder(eyes, other)
    assert contents(other) == before


def test_a_project_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".DS_Store").write_text("hidden")
    with pytest.raises(OSError, match="full"), new_project(tmp_path / "project"):
        (tmp_path / "project" / "images").mkdir()
        (tmp_path / "project" / "images" / "a.png").write_text("half")
        (tmp_path / "project" / "clicks.csv").write_text("")
        raise OSError("disk full")
    assert [path.name for path in (tmp_path / "project").iterdir()] == [".DS_Store"]
    with new_project(tmp_path / "project"):
        pass
