"""A plane at every λ: what it says, when it says it, and when it ends."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_tlseg import read_dataset
from napari_tlseg.cli import main
from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.formats import read_image
from napari_tlseg.engine.client import Client
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished, Previewed
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.nets.checkpoint import load, load_model
from napari_tlseg.studies.jobs import Scrub
from napari_tlseg.studies.path import read_path
from tiny import FAST, write_chests, write_eyes

STEPS = ("--steps", "30", "--warm", "0.5", "--size", "32", "--batch", "4", "--device", "cpu", "--precision", "float32")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_eyes(tmp_path_factory.mktemp("eyes"), 12)
    assert main(["pretrain", str(root), "--out", str(root / "clicks.safetensors"), *FAST]) == 0
    make_path(root, root / "path")
    return root


def make_path(root: Path, out: Path, *flags: str) -> None:
    given = ["--source", str(root / "clicks.safetensors"), "--out", str(out), "--lambdas", "inf,0.01,0", *STEPS]
    assert main(["path", str(root), *given, *flags]) == 0


def scrub(root: Path, run: str = "path", **settings: object) -> tuple[Iterator[Event], Control]:
    control = Control()
    facts = {"case": "eye3", "device": "cpu", "precision": "float32", **settings}
    return Scrub(data=root, model=root / run, **facts).run(control), control


def test_at_a_computed_strength_it_is_the_mask_that_predict_writes(eyes: Path, tmp_path: Path) -> None:
    strength = read_path_strength(eyes / "path")
    found = ["--cases", "eye3", "--model", str(eyes / "path"), "--precision", "float32", "--device", "cpu"]
    assert main(["predict", str(eyes), "--out", str(tmp_path / "found"), *found]) == 0
    event = next(scrub(eyes, strength=strength)[0])
    (case,) = [case for case in read_dataset(eyes) if case.name == "eye3"]
    (mask,) = read_mask(case, 2, tmp_path / "found" / "eye3.png")
    assert isinstance(event, Previewed) and event.strength == strength and event.case == "eye3"
    assert event.labels.dtype == np.uint8 and (event.labels == mask).all() and mask.any()


def read_path_strength(run: Path) -> float:
    """Of the run's own model."""
    return load(run / "model.safetensors").provenance.strength


def test_between_two_it_is_the_network_with_the_weights_between(eyes: Path) -> None:
    checkpoint, (_, between) = load(eyes / "path" / "model.safetensors"), read_path(eyes / "path")
    (case,) = [case for case in read_dataset(eyes) if case.name == "eye3"]
    events, control = scrub(eyes, strength=math.inf)
    ends = []
    for strength in (math.inf, 3e-3, 0.0):
        control.strength = strength
        event = next(events)
        model = load_model(checkpoint)
        model.load_state_dict(between.at(strength))
        (expected,) = Segmenter(model, checkpoint.provenance).planes(read_image(case.image))
        assert event.strength == strength and (event.labels == expected).all()
        ends.append(event.labels)
    assert not (ends[0] == ends[2]).all(), "the ends of the path differ, else this shows nothing"


def test_a_plane_of_a_volume_on_its_native_grid(tmp_path: Path) -> None:
    root = write_chests(tmp_path / "chests")
    clicks = "\n".join(["image,z,y,x", *(f"chest{n}.nii.gz,1,20,20" for n in range(6))])
    (root / "clicks.csv").write_text(clicks + "\n")
    assert main(["pretrain", str(root), "--out", str(root / "clicks.safetensors"), *FAST]) == 0
    make_path(root, root / "path")
    event = next(scrub(root, case="chest1", plane=2, strength=0.0)[0])
    assert event.plane == 2 and event.labels.shape == (48, 64) and set(np.unique(event.labels)) <= {0, 1, 2}


def test_a_path_that_looks_at_crops_is_shown_as_it_predicts(eyes: Path, tmp_path: Path) -> None:
    make_path(eyes, eyes / "focused", "--focus", str(eyes / "clicks.safetensors"))
    found = ["--cases", "eye3", "--model", str(eyes / "focused"), "--precision", "float32", "--device", "cpu"]
    assert main(["predict", str(eyes), "--out", str(tmp_path / "found"), *found]) == 0
    event = next(scrub(eyes, "focused", strength=read_path_strength(eyes / "focused"))[0])
    (case,) = [case for case in read_dataset(eyes) if case.name == "eye3"]
    assert (event.labels == read_mask(case, 2, tmp_path / "found" / "eye3.png")[0]).all()


def test_only_the_newest_strength_counts_and_a_stop_ends_it(eyes: Path) -> None:
    events, control = scrub(eyes)
    next(events)
    for strength in (1.0, 0.5, 0.0):
        control.strength = strength
    assert next(events).strength == 0.0
    control.stop = True
    assert list(events) == [Finished(reason="stopped", out=None)]


def test_it_waits_without_work(eyes: Path) -> None:
    events, control = scrub(eyes)
    next(events)
    heard: list[Event] = []
    busy: list[float] = []

    def listen() -> None:
        began = time.thread_time()
        heard.extend(events)
        busy.append(time.thread_time() - began)

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.5)
    assert thread.is_alive() and not heard
    control.stop = True
    thread.join(10)
    assert heard == [Finished(reason="stopped", out=None)] and busy[0] < 0.1


def test_in_a_worker_it_hears_of_a_strength_and_of_a_stop(eyes: Path, tmp_path: Path) -> None:
    with Client(tmp_path / "log") as client:
        handle = client.submit(Scrub(data=eyes, model=eyes / "path", case="eye3", device="cpu"))
        events = iter(handle)
        assert next(events).strength == Scrub.strength
        handle.set_strength(math.inf)
        assert next(events).strength == math.inf
        handle.stop()
        assert list(events) == [Finished(reason="stopped", out=None)]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"case": "none"}, "no case 'none'"), ({"plane": 1}, "plane 1"), ({"strength": -1.0}, "--lambda")],
)
def test_what_cannot_be_shown_is_said(settings: dict[str, object], complaint: str, eyes: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        next(scrub(eyes, **settings)[0])


def test_a_run_without_a_path_is_named(eyes: Path) -> None:
    with pytest.raises(InputError, match="holds no path"):
        next(scrub(eyes, "images")[0])
