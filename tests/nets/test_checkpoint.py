"""Model files: bit-identical, checked, and refused with a sentence when they are not what they claim."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import Provenance, digest, load, load_encoder, load_model, read_provenance, save
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import Localizer
from napari_tlseg.nets.unet import UNet


def provenance(**changes: object) -> Provenance:
    facts = {
        "task": "segment",
        "encoder": "unet",
        "in_channels": 1,
        "classes": ("background", "disc"),
        "recipe": "fundus",
        "size": 64,
        "strength": math.inf,
        "source_sha256": "ab" * 32,
        "seen": ("f1", "f2"),
        "trained_on": "Augenärzte",
        "scores": {"dice": 0.9, "hd95": None},
    }
    return Provenance(**(facts | changes))


@pytest.fixture(scope="module")
def net() -> UNet:
    """With batch statistics that are not those of a new network."""
    torch.manual_seed(1)
    net = UNet(make_encoder("unet", 1), 2)
    net(torch.rand(2, 1, 32, 32))
    return net


@pytest.fixture
def file(net: UNet, tmp_path: Path) -> Path:
    save(tmp_path / "model.safetensors", net, provenance())
    return tmp_path / "model.safetensors"


def rewrite(file: Path, **changes: str | None) -> None:
    """The same weights with other metadata."""
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() | changes
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={key: value for key, value in metadata.items() if value is not None})


def test_saved_and_loaded_every_parameter_and_buffer_is_the_same_bit_for_bit(net: UNet, file: Path) -> None:
    loaded = load_model(file)
    assert isinstance(loaded, UNet) and not loaded.training
    assert loaded.state_dict().keys() == net.state_dict().keys()
    assert any("running_mean" in name for name, _ in net.named_buffers())
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert digest(loaded.state_dict()) == digest(net.state_dict()) == load(file).sha256


def test_the_memory_format_leaves_file_and_digest_alone(net: UNet, file: Path) -> None:
    last = load_model(file).to(memory_format=torch.channels_last)
    assert save(file.with_name("last.safetensors"), last, provenance()) == load(file).sha256
    weights = load(file.with_name("last.safetensors")).tensors
    assert all(tensor.is_contiguous() for tensor in weights.values())
    assert torch.equal(weights["encoder.body.levels.1.0.weight"], net.state_dict()["encoder.body.levels.1.0.weight"])


def test_saving_leaves_no_other_file_and_replaces(net: UNet, file: Path) -> None:
    save(file, net, provenance(seed=7))
    assert read_provenance(file).seed == 7
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_provenance_comes_back(file: Path) -> None:
    found = read_provenance(file)
    assert found == provenance(versions=found.versions, created=found.created)
    assert found.strength == math.inf
    with safe_open(file, framework="pt") as opened:
        assert json.loads(opened.metadata()["provenance"])["strength"] == "inf"


@given(
    strength=st.floats(0, allow_nan=False),
    scores=st.dictionaries(st.text(max_size=5), st.none() | st.floats(0, 1)),
    seen=st.lists(st.text()).map(tuple),
    trained_on=st.text(),
)
def test_provenance_survives_json(**facts: object) -> None:
    record = provenance(**facts)
    assert Provenance.from_json(record.to_json()) == record


def test_an_undefined_score_is_null_and_later_fields_are_passed_over() -> None:
    record = json.loads(provenance(scores={"dice": math.nan}).to_json())
    assert record["scores"] == {"dice": None}
    assert Provenance.from_json(json.dumps(record | {"of_tomorrow": 1})).scores == {"dice": None}


@settings(max_examples=25)
@given(bit=st.integers(0, 12 * 8 - 1))
def test_the_digest_changes_with_any_bit(bit: int) -> None:
    raw = torch.arange(12, dtype=torch.uint8)
    changed = raw.clone()
    changed[bit // 8] ^= 1 << bit % 8
    assert digest({"a": raw.view(torch.float32)}) != digest({"a": changed.view(torch.float32)})


def test_the_digest_knows_name_type_and_shape_but_no_order() -> None:
    zeros = torch.zeros(2, 3)
    others = [{"b": zeros}, {"a": zeros.T}, {"a": zeros.int()}, {"a": zeros, "b": torch.zeros(0)}, {}]
    digests = [digest(tensors) for tensors in [{"a": zeros}, *others]]
    assert len(set(digests)) == len(digests)
    one, other = torch.tensor(1), torch.ones(2, dtype=torch.bfloat16)
    assert digest({"a": one, "b": other}) == digest({"b": other, "a": one})


def test_changed_weights_are_refused(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(raw)
    assert read_provenance(file).encoder == "unet"
    with pytest.raises(InputError, match="changed after they were saved") as caught:
        load(file)
    assert caught.value.path == file


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_truncated_file_is_refused(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    for reader in (read_provenance, load, load_model, load_encoder):
        with pytest.raises(InputError, match="damaged or not a safetensors file"):
            reader(file)


def test_what_is_no_model_file_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such model file"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="there is no such model file"):
        load(tmp_path)
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="does not say where its weights come from"):
        load(tmp_path / "foreign.safetensors")
    rewrite(file, sha256=None)
    with pytest.raises(InputError, match="does not say where"):
        load(file)


@pytest.mark.parametrize(
    "change",
    [
        {"task": "diagnose"},
        {"in_channels": "one"},
        {"size": 0},
        {"classes": ["background"]},
        {"classes": None},
        {"strength": "nan"},
        {"strength": -1},
        {"strength": None},
    ],
)
def test_nonsense_in_the_provenance_is_refused(file: Path, change: dict[str, object]) -> None:
    rewrite(file, provenance=json.dumps(json.loads(provenance().to_json()) | change))
    with pytest.raises(InputError, match="does not say where"):
        read_provenance(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{"])
def test_a_provenance_that_is_none_is_refused(file: Path, text: str) -> None:
    rewrite(file, provenance=text)
    with pytest.raises(InputError, match="does not say where"):
        read_provenance(file)


def test_weights_of_another_model_are_refused(file: Path) -> None:
    rewrite(file, provenance=provenance(classes=("background", "disc", "cup")).to_json())
    with pytest.raises(InputError, match="its weights are not those of a segment model with encoder unet"):
        load_model(file)
    rewrite(file, provenance=provenance(encoder="no-such").to_json())
    with pytest.raises(InputError, match="no encoder is called 'no-such'"):
        load_model(file)


def test_a_localizer_gives_its_encoder_to_a_segmenter(tmp_path: Path) -> None:
    path = tmp_path / "clicks.safetensors"
    localizer = Localizer(make_encoder("resnet18", 1), 64)
    localizer(torch.rand(2, 1, 64, 64))
    save(path, localizer, provenance(task="localize", encoder="resnet18"))
    encoder = load_encoder(path, encoder="resnet18", in_channels=1)
    assert digest(encoder.state_dict()) == digest(localizer.encoder.state_dict())
    assert isinstance(load_model(path), Localizer)
    assert UNet(encoder, 2)(torch.rand(1, 1, 64, 64).expand(2, -1, -1, -1)).shape == (2, 1, 64, 64)


def test_a_source_of_another_encoder_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="source holds encoder unet, you asked for densenet121"):
        load_encoder(file, encoder="densenet121")
    with pytest.raises(InputError, match="takes images of 1 channels, these have 3"):
        load_encoder(file, in_channels=3)


def test_an_encoder_that_began_on_imagenet_stays_a_three_channel_one(tmp_path: Path) -> None:
    weights, path = tmp_path / "plain.pth", tmp_path / "source.safetensors"
    torch.save(make_encoder("unet", 3).body.state_dict(), weights)
    net = UNet(make_encoder("unet", 1, weights), 2).eval()
    save(path, net, provenance(init="plain.pth"))
    loaded, image = load_model(path), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image), net(image))
    assert load_encoder(path, in_channels=3).in_channels == 3
    with pytest.raises(InputError, match="these have 2"):
        load_encoder(path, in_channels=2)
