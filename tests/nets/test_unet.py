"""The U-Net takes any size, any number of channels and classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet, pad_to, probabilities


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(make_encoder("unet", 1), 2).eval()


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 70), columns=st.integers(1, 70))
def test_logits_have_the_size_of_the_image(unet: UNet, rows: int, columns: int) -> None:
    with torch.no_grad():
        assert unet(torch.rand(1, 1, rows, columns)).shape == (1, 1, rows, columns)


@pytest.mark.parametrize("name", ["unet", "resnet18", "tu-convnext_atto"])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 4), (3, 2), (5, 4)])
def test_channels_and_classes(name: str, channels: int, classes: int) -> None:
    net = UNet(make_encoder(name, channels), classes)
    logits = net(torch.rand(2, channels, 65, 33))
    assert logits.shape == (2, 1 if classes == 2 else classes, 65, 33)
    shares = probabilities(logits)
    assert shares.shape == (2, classes, 65, 33)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 65, 33))


def test_encoder_and_decoder_hold_every_parameter(unet: UNet) -> None:
    assert {name.partition(".")[0] for name, _ in unet.named_parameters()} == {"encoder", "decoder"}


def test_padding_repeats_the_border_and_is_cropped_again(unet: UNet) -> None:
    image = torch.rand(1, 1, 30, 41)
    padded = pad_to(image, (16, 16))
    assert padded.shape == (1, 1, 32, 48)
    assert torch.equal(padded[..., :30, :41], image)
    assert torch.equal(padded[..., 31, :41], image[..., -1, :])
    with torch.no_grad():
        assert torch.equal(unet(image), unet(padded)[..., :30, :41])
    assert pad_to(padded, (16, 16)) is padded


def test_channels_last_is_the_same_network(unet: UNet) -> None:
    image = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        usual = unet(image)
        last = unet.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, usual, rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_network_and_the_same_step() -> None:
    def gradient() -> torch.Tensor:
        torch.manual_seed(3)
        net = UNet(make_encoder("unet", 1), 2)
        net(torch.rand(2, 1, 32, 32)).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    assert torch.equal(gradient(), gradient())


def test_extreme_logits_stay_probabilities() -> None:
    shares = probabilities(torch.tensor([1e4, 0.0, -1e4]).view(3, 1, 1, 1).bfloat16())
    assert shares.dtype == torch.float32
    assert shares.flatten(1).tolist() == [[0, 1], [0.5, 0.5], [1, 0]]


def test_one_class_is_no_segmentation() -> None:
    with pytest.raises(ValueError, match="at least one more class"):
        UNet(make_encoder("unet"), 1)
