"""2-D encoders inflated: what they compute is what the 2-D ones do of each plane."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import Provenance, load_encoder, save
from napari_tlseg.nets.encoders import Encoder, inflated, make_encoder
from napari_tlseg.nets.unet import UNet

MOBILENET = Path(__file__).resolve().parents[3] / "shared/data/weights/mobilenet_v2_imagenet_dequant_bnrecal_fp16.pth"


def trained(name: str, channels: int = 1) -> Encoder:
    """With statistics that are not those of a new network."""
    torch.manual_seed(0)
    encoder = make_encoder(name, channels)
    encoder(torch.rand(4, channels, 32, 32))
    return encoder


def assert_slice_by_slice(deep: Encoder, flat: Encoder) -> None:
    """Sides that are no powers of 2, batches, and volumes of one plane too."""
    for planes in (3, 1):
        volumes = torch.rand(2, flat.in_channels, planes, 64, 96)
        with torch.no_grad():
            found = deep.eval()(volumes)
            wanted = [flat.eval()(volumes[:, :, plane]) for plane in range(planes)]
        for level, feature in enumerate(found):
            assert feature.shape[2] == planes
            together = torch.stack([each[level] for each in wanted], dim=2)
            torch.testing.assert_close(feature, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "resnet18", "mobilenet_v2"])
def test_each_plane_gives_what_it_gives_the_2d_encoder(name: str) -> None:
    flat = trained(name, 2)
    deep = inflated(flat)
    assert deep.name == f"{name}-3d" and deep.axes == 3
    assert deep.channels == flat.channels and deep.strides == flat.strides
    assert deep.scales == tuple((1, stride, stride) for stride in flat.strides)
    assert_slice_by_slice(deep, flat)


def test_kernels_are_one_plane_deep_and_hold_the_2d_weights() -> None:
    flat = trained("resnet18")
    deep = inflated(flat)
    pairs = zip(flat.named_parameters(), deep.named_parameters(), strict=True)
    for (name, kernel), (deep_name, found) in pairs:
        assert name == deep_name
        assert torch.equal(found.squeeze(2) if kernel.ndim == 4 else found, kernel), name
    shapes = {tuple(m.kernel_size) for m in deep.modules() if isinstance(m, nn.Conv3d)}
    assert shapes == {(1, 7, 7), (1, 3, 3), (1, 1, 1)}
    assert not any(isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.MaxPool2d) for module in deep.modules())
    assert all(torch.equal(flat.get_buffer(name), buffer) for name, buffer in deep.named_buffers() if "body" in name)


def test_the_2d_encoder_stays_as_it_was_and_shares_nothing() -> None:
    flat = trained("unet")
    kept = {name: tensor.clone() for name, tensor in flat.state_dict().items()}
    deep = inflated(flat)
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.zero_()
    assert all(torch.equal(kept[name], tensor) for name, tensor in flat.state_dict().items())


@pytest.mark.parametrize("name", ["maknet", "efficientnet-b0"])
def test_an_encoder_that_would_mix_planes_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"encoder '{name}' has layers that see planes only; choose another"):
        make_encoder(f"{name}-3d")


def test_a_pool_that_mixes_planes_is_found_out_though_it_runs() -> None:
    """The mean over the last two axes but one is within a plane in 2-D, and across planes in 3-D."""

    class Sly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [self.conv(x) - x.mean((2, 3), keepdim=True)]

    with pytest.raises(InputError, match="see planes only"):
        inflated(Encoder("sly", Sly(), 1, (0.5,), (0.25,)))


def test_a_unet_on_it_sees_volumes_of_any_size_and_learns_everywhere() -> None:
    net = UNet(make_encoder("unet-3d", 1), 3)
    volume = torch.rand(1, 1, 3, 20, 37)
    logits = net(volume)
    assert logits.shape == (1, 3, 3, 20, 37)
    logits.square().sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    kernels = {tuple(m.kernel_size) for m in net.decoder.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(3, 3, 3), (1, 1, 1)}  # planes meet in the decoder


def test_a_2d_source_is_inflated_where_it_is_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path = UNet(trained("unet"), 2), tmp_path / "flat.safetensors"
    facts = {"task": "segment", "encoder": "unet", "in_channels": 1, "classes": ("b", "t"), "recipe": "plain"}
    save(path, net, Provenance(size=32, **facts))  # type: ignore[arg-type]
    assert_slice_by_slice(load_encoder(path, encoder="unet-3d"), net.encoder)
    with pytest.raises(InputError, match="source holds encoder unet, you asked for resnet18-3d"):
        load_encoder(path, encoder="resnet18-3d")


def test_weights_of_a_file_are_those_of_the_2d_encoder(tmp_path: Path) -> None:
    body = make_encoder("resnet18", 3).body
    torch.save(body.state_dict(), tmp_path / "resnet18.pth")
    deep = make_encoder("resnet18-3d", 1, tmp_path / "resnet18.pth")
    assert torch.equal(deep.body.get_parameter("conv1.weight")[:, :, 0], body.get_parameter("conv1.weight"))
    assert deep.in_channels == 1 and deep.mean.shape == (1, 3, 1, 1, 1)  # grey is repeated


@pytest.mark.skipif(not MOBILENET.exists(), reason="needs the shared data")
def test_real_imagenet_weights() -> None:
    assert_slice_by_slice(make_encoder("mobilenet_v2-3d", 1, MOBILENET), make_encoder("mobilenet_v2", 1, MOBILENET))
