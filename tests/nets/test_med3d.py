"""The encoders of Med3D: MONAI's ResNets, with the weights that MedicalNet publishes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures

from napari_tlseg.errors import InputError
from napari_tlseg.nets import med3d
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.hydranet import HydraNet
from napari_tlseg.nets.med3d import Med3DBody


def count_by_hand(blocks: tuple[int, ...], projected: bool) -> int:
    """Of a ResNet of basic blocks: 3×3×3 kernels, batch-norm; a shortcut, with or without weights, where it widens."""
    total, inputs = 7**3 * 64 + 2 * 64, 64
    for width, number in zip((64, 128, 256, 512), blocks, strict=True):
        total += 27 * width * (inputs + width * (2 * number - 1)) + 2 * width * 2 * number
        total += (inputs * width + 2 * width) * (projected and inputs != width)
        inputs = width
    return total


@pytest.mark.parametrize(("depth", "blocks", "projected"), [(10, (1, 1, 1, 1), True), (18, (2, 2, 2, 2), False)])
def test_parameters_are_those_of_the_published_networks(depth: int, blocks: tuple[int, ...], projected: bool) -> None:
    """14.36 and 32.99 million, as MedicalNet's page says."""
    encoder = make_encoder(f"resnet{depth}-med3d", 1)
    assert sum(p.numel() for p in encoder.parameters()) == count_by_hand(blocks, projected)
    assert encoder.channels == (64, 64, 128, 256, 512)
    assert encoder.scales == tuple((stride,) * 3 for stride in (2, 4, 8, 16, 32))


def test_it_computes_what_monais_does_and_lets_the_gradient_through_the_shortcut() -> None:
    """Of resnet18 the shortcut where a stage widens has no weights; MONAI's stops the gradient there."""
    ours, monais = Med3DBody(18, 1).eval(), ResNetFeatures("resnet18", pretrained=False).eval()
    monais.load_state_dict(ours.state_dict())
    volume = torch.rand(1, 1, 16, 32, 32)
    with torch.no_grad():
        for found, wanted in zip(ours(volume), monais(volume), strict=True):
            torch.testing.assert_close(found, wanted)
    block, features = ours.layer2[0], torch.rand(1, 64, 4, 4, 4, requires_grad=True)
    torch.nn.init.zeros_(block.bn2.weight)  # only the shortcut is left
    (gradient,) = torch.autograd.grad(block(features).sum(), features)
    assert gradient[:, :, ::2, ::2, ::2].all() and gradient.sum() == 64 * 8


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file as MedicalNet's are: a training's checkpoint, names with `module.`, a decoder on it."""
    torch.manual_seed(3)
    body, path = Med3DBody(10, 1), tmp_path_factory.mktemp("medicalnet") / "resnet_10_23dataset.pth"
    names = {f"module.{name}": tensor for name, tensor in body.state_dict().items()}
    torch.save({"state_dict": {**names, "module.conv_seg.0.weight": torch.ones(2)}, "epoch": 180}, path)
    return path, body.state_dict()


def test_a_file_of_medicalnet_is_read_bit_for_bit(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, tensors = published
    state = make_encoder("resnet10-med3d", 1, path).body.state_dict()
    assert state.keys() == tensors.keys() and all(torch.equal(state[name], tensors[name]) for name in tensors)


def test_what_does_not_fit_is_refused(published: tuple[Path, dict[str, torch.Tensor]]) -> None:
    path, _ = published
    with pytest.raises(InputError, match="does not hold encoder 'resnet18-med3d'"):
        make_encoder("resnet18-med3d", 1, path)
    with pytest.raises(InputError, match="take images of 1 channel, not 3"):
        make_encoder("resnet10-med3d", 3, path)
    with pytest.raises(InputError, match="no ImageNet weights for encoder 'resnet10-med3d'; give medicalnet, or none"):
        make_encoder("resnet10-med3d", 1, "imagenet")
    with pytest.raises(InputError, match="no MedicalNet weights for encoder 'unet'; ask for resnet18-med3d"):
        make_encoder("unet", 1, "medicalnet")
    with pytest.raises(InputError, match="no encoder is called 'resnet11-med3d'; did you mean resnet1"):
        make_encoder("resnet11-med3d", 1)


def test_the_hub_is_asked_for_one_file(
    published: tuple[Path, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(med3d, "hf_hub_download", lambda **names: asked.append(names) or str(published[0]))
    encoder = make_encoder("resnet10-med3d", 1, "medicalnet")
    assert asked == [{"repo_id": "TencentMedicalNet/MedicalNet-Resnet10", "filename": "resnet_10_23dataset.pth"}]
    assert torch.equal(encoder.body.get_parameter("conv1.weight"), published[1]["conv1.weight"])


def test_without_a_network_a_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**names: str) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(med3d, "hf_hub_download", unreachable)
    with pytest.raises(
        InputError, match="MedicalNet weights for encoder 'resnet10-med3d': the download needs internet"
    ):
        make_encoder("resnet10-med3d", 1, "medicalnet")


def test_med3d_is_its_encoder_with_a_decoder_per_data_set() -> None:
    net = HydraNet(make_encoder("resnet10-med3d", 1), (2, 3)).eval()
    volumes = torch.rand(2, 1, 5, 20, 32)
    with torch.no_grad():
        found = net(volumes)
        assert [logits.shape for logits in found] == [(1, 1, 5, 20, 32), (1, 3, 5, 20, 32)]
        torch.testing.assert_close(found[1], net.unet(1)(volumes[1:]), rtol=1e-4, atol=1e-5)
