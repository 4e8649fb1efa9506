"""The names that a notebook uses."""

from __future__ import annotations

import pytest

import napari_tlseg


@pytest.mark.parametrize("name", napari_tlseg.__all__)
def test_every_public_name_is_there_and_explains_itself(name):
    thing = getattr(napari_tlseg, name)
    assert thing.__name__ == name
    assert thing.__module__.startswith("napari_tlseg.")
    text = thing.__doc__ or ""
    assert len(text.split()) >= 5
    assert not text.startswith(f"{name}(")  # what a dataclass says of itself where nobody else does


def test_the_names_that_other_programs_rely_on_are_public():
    promised = "read_dataset write_masks Anchor AnchoredAdam UNet Localizer fit pretrain finetune predict score"
    assert set(promised.split()) <= set(napari_tlseg.__all__)


def test_names_can_be_completed_and_are_loaded_once():
    assert set(napari_tlseg.__all__) <= set(dir(napari_tlseg))
    assert napari_tlseg.fit is napari_tlseg.fit


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'napari_tlseg' has no attribute 'segment_everything'"):
        napari_tlseg.segment_everything  # noqa: B018
