"""What is taken of a source, and that the rest is a new network's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from napari_tlseg.errors import InputError
from napari_tlseg.learn.anchor import Anchor
from napari_tlseg.learn.fit import adapt
from napari_tlseg.learn.transfer import lowest_layers, take
from napari_tlseg.nets.encoders import Encoder, make_encoder
from napari_tlseg.nets.unet import UNet
from napari_tlseg.options import Transfer


def learned(name: str = "unet", channels: int = 1) -> Encoder:
    """An encoder that is far from a new one: shifted weights, and the statistics of some batches."""
    torch.manual_seed(3)
    encoder = make_encoder(name, channels)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter) + 0.05)
        encoder.train()(torch.rand(4, channels, 64, 64))
    return encoder


def state(encoder: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


@pytest.mark.parametrize(
    ("text", "transfer"),
    [("full", Transfer()), ("mean-var", Transfer("mean-var")), ("lowest:2", Transfer("lowest", 2))],
)
def test_what_can_be_taken_is_read_from_words(text: str, transfer: Transfer) -> None:
    assert Transfer.parse(text) == transfer


@pytest.mark.parametrize(
    "text", ["", "all", "lowest", "lowest:", "lowest:0", "lowest:-1", "lowest:1.5", "full:2", "mean-var:"]
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"--transfer {text} is not possible; give full, mean-var or lowest:K"):
        Transfer.parse(text)


def test_full_takes_everything_bit_for_bit() -> None:
    encoder = learned()
    before = state(encoder)
    assert take(encoder, Transfer()) == {name for name, _ in encoder.named_parameters()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_mean_var_draws_from_a_normal_of_the_same_mean_and_variance() -> None:
    """Mean and SD within 5 standard errors, the shape by Kolmogorov and Smirnov, and no memory of the values."""
    encoder = learned()
    before = state(encoder)
    assert take(encoder, Transfer("mean-var")) == frozenset()
    judged = 0
    for name, parameter in encoder.named_parameters():
        old, new = (tensor.detach().double().numpy().ravel() for tensor in (before[name], parameter))
        mean, sd, n = old.mean(), old.std(), old.size
        assert abs(new.mean() - mean) <= 5 * sd / math.sqrt(n) + 1e-6, name
        assert abs(new.std() - sd) <= 5 * sd / math.sqrt(2 * n) + sd / n + 1e-6, name
        if n > 1000:
            judged += 1
            assert stats.kstest(new, "norm", (mean, sd)).pvalue > 1e-5, name
            if n > 10000:
                assert stats.kstest(old, "norm", (mean, sd)).pvalue < 1e-5, f"{name} would pass untouched"
            assert abs(np.corrcoef(old, new)[0, 1]) < 5 / math.sqrt(n), name
    assert judged >= 8


def test_mean_var_leaves_the_statistics_of_a_new_network() -> None:
    encoder = learned()
    take(encoder, Transfer("mean-var"))
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert not module.running_mean.any() and (module.running_var == 1).all()  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "channels"), [("unet", 1), ("resnet18", 3), ("mobilenet_v2", 1), ("densenet121", 1)])
def test_lowest_two_are_the_first_two_convolutions(name: str, channels: int) -> None:
    """Those of the source bit for bit, with their normalisation; all else as a new network has it."""
    encoder = learned(name, channels)
    before, convolutions = state(encoder), [n for n, m in encoder.named_modules() if isinstance(m, nn.Conv2d)]
    torch.manual_seed(0)
    taken = take(encoder, Transfer("lowest", 2))
    torch.manual_seed(0)
    new = make_encoder(name, channels).state_dict()
    assert {n for n in convolutions if f"{n}.weight" in taken} == set(convolutions[:2])
    owners = {each.rpartition(".")[0] for each in taken}
    for each, tensor in encoder.state_dict().items():
        expected = before if each.rpartition(".")[0] in owners or each in ("mean", "std") else new
        assert torch.equal(tensor, expected[each]), each
    norms = [m for n, m in encoder.named_modules() if n in owners and isinstance(m, nn.BatchNorm2d)]
    assert len(norms) >= 2 and all(norm.running_mean.any() for norm in norms)  # type: ignore[union-attr]


def test_the_order_is_that_of_an_image_not_of_the_names() -> None:
    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Conv2d(2, 4, 3, 2, 1), nn.Conv2d(1, 2, 3, 2, 1)

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            low = self.first(image)
            return [low, self.last(low)]

    encoder = Encoder("unet", Reversed(), 1, (0.5,), (0.25,))
    assert lowest_layers(encoder, 1) == {"body.first"}
    assert lowest_layers(encoder, 2) == {"body.first", "body.last"}


def test_looking_for_the_lowest_changes_nothing() -> None:
    encoder = learned()
    encoder.body.eval()
    before, modes = state(encoder), [module.training for module in encoder.modules()]
    lowest_layers(encoder, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert modes == [module.training for module in encoder.modules()] and not encoder._forward_pre_hooks


def test_more_layers_than_there_are_is_refused_and_all_of_them_is_full() -> None:
    encoder = learned()
    with pytest.raises(InputError, match=r"lowest:11 cannot be: encoder unet has 10 convolutions; take 1 to 10"):
        take(encoder, Transfer("lowest", 11))
    before = state(encoder)
    assert take(encoder, Transfer("lowest", 10)) == {name for name, _ in encoder.named_parameters()}
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


# the anchor of what was taken


def anchored(strength: float) -> tuple[UNet, Anchor, list[str]]:
    encoder = learned()
    taken = take(encoder, Transfer("lowest", 2))
    names = [name for name, _ in encoder.named_parameters() if name in taken]
    named = dict(encoder.named_parameters())
    return UNet(encoder, 2), Anchor(encoder, strength, parameters=[named[name] for name in names]), names


def test_the_anchor_and_its_drift_know_only_what_was_taken() -> None:
    model, anchor, names = anchored(2.0)
    theta = {name: p.detach().clone() for name, p in model.encoder.named_parameters()}
    with torch.no_grad():
        for number, parameter in enumerate(model.encoder.parameters()):
            parameter.add_(0.01 * (number + 1))
    moved = sum((p.detach() - theta[n]).square().sum() for n, p in model.encoder.named_parameters() if n in names)
    size = sum(theta[name].square().sum() for name in names)
    assert anchor.penalty().item() == pytest.approx(2 * float(moved), rel=1e-4)
    assert anchor.drift() == pytest.approx(math.sqrt(moved / size), rel=1e-4)


@pytest.mark.parametrize("norm", ["target", "source"])
def test_at_infinity_what_was_drawn_still_learns(norm: str) -> None:
    model, anchor, names = anchored(math.inf)
    adapt(model, anchor, norm)  # type: ignore[arg-type]
    before = state(model.encoder)
    model(torch.rand(2, 1, 32, 32)).square().sum().backward()
    for name, parameter in model.encoder.named_parameters():
        assert (parameter.grad is None) == (name in names), name
    for name, buffer in model.encoder.named_buffers():
        if name.endswith("running_mean"):
            held = f"{name.rpartition('.')[0]}.weight" in names
            assert torch.equal(buffer, before[name]) == held, name
