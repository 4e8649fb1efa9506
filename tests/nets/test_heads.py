"""The localizer: shapes, size limits, and that it learns where a spot is."""

from __future__ import annotations

import pytest
import torch

from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.heads import SIGMA, THIN, HeatmapLocalizer, Localizer, make_localizer
from napari_tlseg.nets.unet import UNet


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


@pytest.mark.parametrize("head", ["heatmap", "unet"])
@pytest.mark.parametrize(("name", "size"), [("unet", 64), ("unet", 50), ("mobilenet_v2", 96)])
def test_a_heat_map_of_the_square_and_gradient_for_all(head: str, name: str, size: int) -> None:
    net = make_localizer(head, make_encoder(name, 1), size)
    output = net(torch.rand(3, 1, size, size))
    cell = {"heatmap": 4, "unet": 1}[head]
    assert output.shape == (3, 1, -(-size // cell), -(-size // cell))
    assert net.places(output).shape == (3, 3)
    net.loss(output, torch.rand(3, 2)).backward()
    assert [key for key, p in net.named_parameters() if p.grad is None] == []


def heat(net: HeatmapLocalizer, *peaks: tuple[float, float, float], sigma: float = SIGMA) -> torch.Tensor:
    """Logits (1, 1, h, w) of a mixture of Gaussians: (share, y, x), fractions of the side."""
    cells = torch.arange(net.size) + 0.5
    y, x = torch.meshgrid(cells / net.size, cells / net.size, indexing="ij")
    chances = sum(share * torch.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * sigma**2)) for share, top, left in peaks)
    return chances.log().clamp(min=-80)[None, None]


def test_place_and_doubt_are_those_of_the_map() -> None:
    """Pixels of a Gaussian lie √2 s from its middle (root mean square); a far second peak pulls no point."""
    net = make_localizer("unet", make_encoder("unet"), 200)
    assert isinstance(net, HeatmapLocalizer)
    y, x, doubt = net.places(heat(net, (1, 0.3021, 0.6543)))[0].tolist()
    assert (y, x) == pytest.approx((0.3021, 0.6543), abs=1e-3), "a fifth of a cell"
    assert doubt < 0.1 * SIGMA, "as sure as a click"
    assert net.places(heat(net, (1, 0.3, 0.6), sigma=2 * SIGMA))[0, 2].item() == pytest.approx(6**0.5 * SIGMA, rel=0.05)
    y, x, doubt = net.places(heat(net, (0.75, 0.3, 0.6), (0.25, 0.8, 0.6)))[0].tolist()
    assert (y, x) == pytest.approx((0.3, 0.6), abs=1e-3)
    assert doubt == pytest.approx(0.25**0.5 * 0.5, rel=0.02)


@pytest.mark.parametrize("head", ["heatmap", "unet"])
def test_the_loss_of_a_heat_map_is_least_at_the_click(head: str) -> None:
    """The cross-entropy with a distribution is least for that distribution, and then its entropy."""
    net = make_localizer(head, make_encoder("unet"), 64)
    assert isinstance(net, HeatmapLocalizer)
    click = torch.tensor([[0.4, 0.7]])
    cells = net._cells(net(torch.rand(2, 1, 64, 64)))
    wanted = (-((cells - click) ** 2).sum(1) / (2 * net._sigma**2)).softmax(0)
    side = int(len(cells) ** 0.5)
    best = net.loss(wanted.log().clamp(min=-80).view(1, 1, side, side), click)
    assert best.item() == pytest.approx(-(wanted * wanted.clamp(min=1e-30).log()).sum().item(), rel=1e-3)
    shifted = wanted.view(1, 1, side, side).roll(1, 3).log().clamp(min=-80)
    assert net.loss(shifted, click) > best


def test_the_head_unet_is_a_unet_whose_weights_can_go_on() -> None:
    net, model = make_localizer("unet", make_encoder("unet"), 64), UNet(make_encoder("unet"), 2)
    model.load_state_dict(net.state_dict())
    image = torch.rand(1, 1, 64, 64)
    assert torch.equal(net.eval()(image), model.eval()(image))


@pytest.mark.parametrize("head", ["regression", "heatmap"])
def test_it_learns_where_a_spot_is(head: str) -> None:
    torch.manual_seed(0)
    places = torch.randint(4, 28, (16, 2))
    images = torch.zeros(16, 1, 32, 32)
    for image, (y, x) in zip(images, places.tolist(), strict=True):
        image[0, y - 3 : y + 4, x - 3 : x + 4] = 1
    net, targets = make_localizer(head, make_encoder("unet"), 32), (places + 0.5) / 32
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        net.loss(net(images), targets).backward()
        optimizer.step()
    found = net.places(net(images)).detach()
    assert (found[:, :2] - targets).norm(dim=1).median() < 0.3 * targets.std()
    if head == "heatmap":
        assert (found[:, :2] - targets).norm(dim=1).max() < 1.5 / 32, "to a pixel and a half"
