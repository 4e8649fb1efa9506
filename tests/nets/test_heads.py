"""The localizer: shapes, size limits, and that it learns where a spot is."""

from __future__ import annotations

import pytest
import torch

from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import THIN, Localizer


@pytest.mark.parametrize(("name", "channels", "size"), [("unet", 1, 64), ("unet", 3, 50), ("mobilenet_v2", 2, 96)])
def test_two_fractions_per_image_and_gradient_for_all(name: str, channels: int, size: int) -> None:
    net = Localizer(make_encoder(name, channels), size)
    points = net(torch.rand(3, channels, size, size))
    assert points.shape == (3, 2)
    points.square().sum().backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []


def test_the_feature_is_thinned_but_keeps_its_resolution() -> None:
    head = Localizer(make_encoder("unet"), 384).head
    assert (head[0].out_channels, head[4].in_features) == (THIN, THIN * 24 * 24)


def test_it_starts_in_the_middle() -> None:
    net = Localizer(make_encoder("unet"), 64)
    assert net.head[-1].bias.tolist() == [0.5, 0.5]


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 64×64 pixels, not"):
        Localizer(make_encoder("unet"), 64)(torch.rand(1, 1, 32, 32))


def test_it_learns_where_a_spot_is() -> None:
    torch.manual_seed(0)
    places = torch.randint(4, 28, (16, 2))
    images = torch.zeros(16, 1, 32, 32)
    for image, (y, x) in zip(images, places.tolist(), strict=True):
        image[0, y - 3 : y + 4, x - 3 : x + 4] = 1
    net, targets = Localizer(make_encoder("unet"), 32), places / 32
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(images), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * targets.var().item() < losses[0]
