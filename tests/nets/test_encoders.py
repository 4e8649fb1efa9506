"""Encoders: measured shapes, weights from files, and refusals that a user understands."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_tlseg.errors import InputError
from napari_tlseg.nets.encoders import IMAGENET_MEAN, Encoder, encoder_names, make_encoder
from napari_tlseg.nets.unet import UNet

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
MOBILENET = SHARED / "weights" / "mobilenet_v2_imagenet_dequant_bnrecal_fp16.pth"
SEVERAL = ["unet", "densenet121", "resnet18", "vgg11_bn", "mobilenet_v2", "efficientnet-b0", "tu-convnext_atto"]


@pytest.fixture(scope="module")
def resnet() -> Encoder:
    return make_encoder("resnet18", 3)


@pytest.fixture
def resnet_file(resnet: Encoder, tmp_path: Path) -> Path:
    """Weights as torchvision keeps them: with a classifier."""
    path = tmp_path / "resnet18.pth"
    torch.save(resnet.body.state_dict() | {"fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)}, path)
    return path


@pytest.mark.parametrize("name", SEVERAL)
def test_every_parameter_gets_a_gradient_and_the_shapes_are_what_was_measured(name: str) -> None:
    encoder = make_encoder(name, 2)
    net = UNet(encoder, 3)
    image = torch.rand(2, 2, 64, 96)
    features = encoder(image)
    assert tuple(f.shape[1] for f in features) == encoder.channels
    assert [tuple(f.shape[-2:]) for f in features] == [(64 // s, 96 // s) for s in encoder.strides]
    assert list(encoder.strides) == sorted(set(encoder.strides))
    net(image).square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []


def test_strides_are_those_of_each_family() -> None:
    assert make_encoder("unet").strides == (1, 2, 4, 8, 16)
    assert make_encoder("unet").channels == (16, 32, 64, 128, 256)
    assert make_encoder("mobilenet_v2").strides == (2, 4, 8, 16, 32)
    assert make_encoder("tu-convnext_atto").strides == (4, 8, 16, 32)


def test_making_an_encoder_leaves_batch_statistics_untouched_and_follows_the_seed() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(make_encoder("resnet18", 1).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    counts = [value for key, value in states[0].items() if key.endswith("num_batches_tracked")]
    assert counts and not any(counts)
    assert not states[0]["body.bn1.running_mean"].any()


def test_a_new_encoder_is_in_training_mode_and_wants_its_channels() -> None:
    encoder = make_encoder("unet", 3)
    assert encoder.training and encoder.body.training
    with pytest.raises(ValueError, match="takes 3 channels, the image has 1"):
        encoder(torch.rand(1, 1, 32, 32))


def test_weights_of_a_file_are_loaded_without_the_classifier(resnet: Encoder, resnet_file: Path) -> None:
    loaded = make_encoder("resnet18", 3, resnet_file)
    for key, tensor in resnet.body.state_dict().items():
        assert torch.equal(loaded.body.state_dict()[key], tensor), key
    assert loaded.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


def test_a_grey_image_is_repeated_over_the_three_channels(resnet_file: Path) -> None:
    grey, colour = (make_encoder("resnet18", channels, resnet_file).eval() for channels in (1, 3))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for one, three in zip(grey(image), colour(image.repeat(1, 3, 1, 1)), strict=True):
            torch.testing.assert_close(one, three)


def test_half_precision_safetensors_become_single_precision(resnet: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() if v.is_floating_point() else v for k, v in resnet.body.state_dict().items()}, path)
    weight = make_encoder("resnet18", 3, path).body.get_parameter("conv1.weight")
    assert weight.dtype == torch.float32
    assert torch.equal(weight, resnet.body.get_parameter("conv1.weight").half().float())


def test_old_densenet_keys_are_understood(tmp_path: Path) -> None:
    """As in densenet121-a639ec97.pth of torchvision: `norm.1`, no count of batches, no zip archive."""
    body = make_encoder("densenet121", 3).body
    path = tmp_path / "densenet121.pth"
    state = {k: v for k, v in body.state_dict().items() if not k.endswith("num_batches_tracked")}
    for part in ("norm", "conv"):
        for place in "12":
            state = {k.replace(f".{part}{place}.", f".{part}.{place}."): v for k, v in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=False)
    loaded = make_encoder("densenet121", 1, path).body
    key = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(loaded.get_parameter(key), body.get_parameter(key))


def test_weights_of_timm_go_without_the_prefix_of_smp(tmp_path: Path) -> None:
    body, path = make_encoder("tu-resnet18", 3).body, tmp_path / "timm.safetensors"
    save_file({key.removeprefix("model."): tensor for key, tensor in body.state_dict().items()}, path)
    loaded = make_encoder("tu-resnet18", 1, path).body
    assert torch.equal(loaded.get_parameter("model.conv1.weight"), body.get_parameter("model.conv1.weight"))


@pytest.mark.skipif(not MOBILENET.exists(), reason="needs the shared data")
def test_real_imagenet_weights() -> None:
    encoder = make_encoder("mobilenet_v2", 1, MOBILENET)
    held = torch.load(MOBILENET, weights_only=True)
    weight = encoder.body.get_parameter("features.0.0.weight")
    assert torch.equal(weight, held["features.0.0.weight"].float())
    assert all(f.isfinite().all() for f in encoder.eval()(torch.rand(1, 1, 96, 96)))


class Trap:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("writer", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))])
def test_code_in_a_pth_is_refused_and_not_run(writer, tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    writer({"conv1.weight": Trap(marker)}, path)
    with pytest.raises(InputError, match="holds code, which is never run") as caught:
        make_encoder("resnet18", 3, path)
    assert caught.value.path == path
    assert not marker.exists()
    with suppress(RuntimeError):  # the trap does spring where nobody guards against it
        torch.load(path, weights_only=False)
    assert marker.exists()


def test_damaged_weights_are_refused(resnet_file: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.pth"
    short.write_bytes(resnet_file.read_bytes()[:-5000])
    empty = tmp_path / "empty.safetensors"
    empty.write_bytes(b"")
    for path in (short, empty):
        with pytest.raises(InputError, match="cannot be read as weights"):
            make_encoder("resnet18", 3, path)
    with pytest.raises(InputError, match="no such file"):
        make_encoder("resnet18", 3, tmp_path / "absent.pth")
    with pytest.raises(InputError, match="not a file of weights"):
        make_encoder("resnet18", 3, _renamed(short, "weights.png"))


def test_weights_of_something_else_are_refused_by_name(resnet_file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"does not hold encoder 'mobilenet_v2': .*missing \(features\.0\.0.*unexpected"
    ):
        make_encoder("mobilenet_v2", 3, resnet_file)
    for change, match in (({"surplus": torch.ones(1)}, "1 tensors unexpected"), ({"fc": [1]}, "other things")):
        path = tmp_path / "changed.pth"
        torch.save(torch.load(resnet_file, weights_only=True) | change, path)
        with pytest.raises(InputError, match=match):
            make_encoder("resnet18", 3, path)
    state = torch.load(resnet_file, weights_only=True)
    torch.save(state | {"conv1.weight": state["conv1.weight"][:, :1]}, path)
    with pytest.raises(InputError, match="other shapes"):
        make_encoder("resnet18", 3, path)


def test_pretrained_weights_want_one_channel_or_three(resnet_file: Path) -> None:
    with pytest.raises(InputError, match="1 or 3 channels, not 2"):
        make_encoder("resnet18", 2, resnet_file)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("densnet121", "densenet121"),
        ("resnet", "resnet"),
        ("tu-resnet19", "tu-resnet18"),
        ("timm-efficientnet-b0", "efficientnet-b0"),
        ("?", "unet"),
    ],
)
def test_an_unknown_name_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"no encoder is called.*{hint}"):
        make_encoder(name)


def test_an_encoder_without_a_pyramid_is_refused() -> None:
    with pytest.raises(InputError, match="choose a convolutional one"):
        make_encoder("tu-vit_tiny_patch16_224")


def test_without_internet_the_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", unreachable)
    with pytest.raises(InputError, match="needs internet: give a file instead"):
        make_encoder("resnet18", 1, "imagenet")


@pytest.mark.parametrize("name", ["unet", "tu-test_vit4"])
def test_an_encoder_nobody_pretrained_has_no_imagenet_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.models.is_model_pretrained", lambda name: False)
    with pytest.raises(InputError, match="no ImageNet weights"):
        make_encoder(name, 1, "imagenet")


def test_the_hub_gives_weights_with_their_own_mean(
    monkeypatch: pytest.MonkeyPatch, resnet: Encoder, tmp_path: Path
) -> None:
    """What smp downloads, from a folder in place of the hub; a mean in 0..255 comes to the scale of the image."""
    (tmp_path / "config.json").write_text('{"input_range": [0, 255], "mean": [51, 102, 153], "std": [51, 51, 51]}')
    save_file(resnet.body.state_dict(), tmp_path / "model.safetensors")
    monkeypatch.setattr(
        "segmentation_models_pytorch.encoders.hf_hub_download", lambda repo, filename, revision: tmp_path / filename
    )
    encoder = make_encoder("resnet18", 1, "imagenet")
    assert encoder.mean.flatten().tolist() == pytest.approx([0.2, 0.4, 0.6])
    assert encoder.std.flatten().tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert torch.equal(encoder.body.get_parameter("conv1.weight"), resnet.body.get_parameter("conv1.weight"))


def test_names_begin_with_the_plain_one() -> None:
    names = encoder_names()
    assert names[0] == "unet"
    assert {"densenet121", "resnet50", "vgg16_bn", "efficientnet-b0"} <= set(names)


def _renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


@pytest.mark.parametrize("name", ["unet", "resnet18", "mobilenet_v2"])
def test_stages_are_in_order_and_end_at_the_deepest_feature(name: str) -> None:
    encoder = make_encoder(name)
    assert len(encoder.stages) == len(list(encoder.parameters()))
    assert list(encoder.stages) == sorted(encoder.stages)
    assert set(encoder.stages) == set(range(len(encoder.channels)))


def test_a_parameter_moves_its_own_stage_and_none_before() -> None:
    encoder = make_encoder("unet").eval()
    image = torch.rand(1, 1, 32, 32)
    before = encoder(image)
    for stage, parameter in zip(encoder.stages, encoder.parameters(), strict=True):
        with torch.no_grad():
            parameter.mul_(1.5).add_(0.1)
        moved = [not torch.equal(a, b) for a, b in zip(encoder(image), before, strict=True)]
        assert moved.index(True) == stage
        with torch.no_grad():
            parameter.sub_(0.1).div_(1.5)
        before = encoder(image)  # the way back is not exact
