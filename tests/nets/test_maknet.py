"""MAKNet's parts against their definitions: groups, kernels, attention, pooling, and how large it is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_tlseg.nets.classifier import Classifier
from napari_tlseg.nets.encoders import encoder_names, make_encoder
from napari_tlseg.nets.heads import Localizer
from napari_tlseg.nets.maknet import CBAM, DenseBlock, MixedConv, mix_pool
from napari_tlseg.nets.unet import UNet


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("kernel", [3, 5])
def test_a_mixed_convolution_has_four_equal_groups_of_all_channels(kernel: int) -> None:
    mixed = MixedConv(10, 24, kernel)
    shapes = [tuple(group.weight.shape) for group in mixed.groups]  # type: ignore[union-attr]
    assert shapes == [(6, 10, kernel, kernel), (6, 10, 1, kernel), (6, 10, kernel, 1), (6, 10, 1, 1)]
    assert all(group.groups == 1 and group.bias is None for group in mixed.groups)  # type: ignore[union-attr]
    assert count(mixed) == 10 * 6 * (kernel + 1) ** 2 + 2 * 24
    with pytest.raises(ValueError, match="cannot share 10 channels"):
        MixedConv(8, 10)


def test_a_mixed_convolution_is_one_of_square_kernels_that_are_zero_where_they_should_be() -> None:
    """Each group embedded in 3×3: rows, columns and centres only; then batch-norm and Mish, x tanh(log(1 + eˣ))."""
    torch.manual_seed(0)
    mixed = MixedConv(5, 8).eval()
    norm, square = mixed.norm, torch.zeros(8, 5, 3, 3)
    nn.init.uniform_(norm.weight)
    norm.running_mean.uniform_()  # type: ignore[union-attr]
    weights = [group.weight.detach() for group in mixed.groups]  # type: ignore[union-attr]
    square[0:2], square[2:4, :, 1:2, :] = weights[0], weights[1]
    square[4:6, :, :, 1:2], square[6:8, :, 1:2, 1:2] = weights[2], weights[3]
    x = torch.randn(2, 5, 9, 7)
    y = norm(F.conv2d(x, square, padding=1))
    torch.testing.assert_close(mixed(x), y * torch.tanh(torch.log1p(torch.exp(y))), rtol=1e-4, atol=1e-5)


def test_mix_pool_is_the_mean_of_both() -> None:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 10.0]]]])
    assert mix_pool(x).tolist() == [[[[(10 + 4) / 2]]]]
    assert mix_pool(torch.rand(2, 3, 8, 6)).shape == (2, 3, 4, 3)


def test_attention_against_its_equations() -> None:
    """Woo et al., eqs. 2 and 3, place by place."""
    torch.manual_seed(0)
    attention, x = CBAM(32).eval(), torch.randn(2, 32, 6, 5)
    first, last = attention.mlp[0], attention.mlp[2]
    assert (first.in_features, first.out_features, last.out_features) == (32, 2, 32)

    def mlp(pooled: Tensor) -> Tensor:
        return torch.relu(pooled @ first.weight.T + first.bias) @ last.weight.T + last.bias

    flat = x.flatten(2)
    weights = torch.sigmoid(mlp(flat.mean(2)) + mlp(flat.max(2).values))
    y = x * weights[..., None, None]
    summary = torch.stack([y.mean(1), y.max(1).values], 1)
    kernel = attention.places[0].weight
    assert kernel.shape == (1, 2, 7, 7)
    places = torch.sigmoid(F.conv2d(summary, kernel, padding=3) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(attention(x), y * places, rtol=1e-4, atol=1e-5)


def test_a_dense_block_gives_each_layer_all_that_came_before() -> None:
    block = DenseBlock(12, 6, 8, 20)
    assert [layer.groups[0].in_channels for layer in block.layers] == [12, 20, 28, 36, 44, 52]  # type: ignore[union-attr,index]
    assert block.join[0].weight.shape == (20, 60, 3, 3)
    seen: list[Tensor] = []
    for layer in block.layers:
        layer.register_forward_pre_hook(lambda _layer, given: seen.append(given[0]))
    x = torch.randn(1, 12, 8, 8)
    assert block(x).shape == (1, 20, 8, 8)
    for earlier, later in itertools.pairwise(seen):
        assert torch.equal(later[:, : earlier.shape[1]], earlier)


def test_batch_norm_and_mish_follow_every_convolution_but_that_of_the_attention() -> None:
    """Which ends in a sigmoid: as many norms as there are, and none left out."""
    body = make_encoder("maknet", 3).body
    kinds = [type(module) for module in body.modules()]
    mixed, squares = kinds.count(MixedConv), 1 + 4
    assert mixed == 3 + 3 + 6 + 6
    assert kinds.count(nn.BatchNorm2d) == mixed + squares + 4
    assert kinds.count(nn.Conv2d) == 4 * mixed + squares + 4
    assert kinds.count(nn.Mish) == squares and nn.ReLU in kinds


def test_as_a_classifier_it_has_four_and_a_half_million_parameters() -> None:
    """Of DeepLesion's 171 labels."""
    assert count(Classifier(make_encoder("maknet", 3), 171)) == pytest.approx(4.5e6, rel=0.02)


def test_it_is_an_encoder_like_any_other() -> None:
    assert "maknet" in encoder_names()
    encoder = make_encoder("maknet", 3)
    assert encoder.strides == (1, 2, 4, 8, 16) and encoder.channels == (32, 64, 128, 256, 320)
    image = torch.rand(2, 3, 72, 56)  # which 16 does not divide
    assert UNet(encoder, 3)(image).shape == (2, 3, 72, 56)
    assert Localizer(encoder, 64)(torch.rand(2, 3, 64, 64)).shape == (2, 2)
    UNet(encoder, 2)(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_the_classifier_by_hand() -> None:
    """Maximum and average of the deepest feature, a linear map, and propagation, which is the identity at first."""
    torch.manual_seed(0)
    net, image = Classifier(make_encoder("unet", 1), 5).eval(), torch.rand(3, 1, 64, 48)
    deepest = net.encoder(image)[-1].flatten(2)
    scores = torch.cat([deepest.max(2).values, deepest.mean(2)], 1) @ net.scores.weight.T + net.scores.bias
    found = net(image)
    assert found.shape == (3, 2, 5)
    torch.testing.assert_close(found[:, 0], scores)
    torch.testing.assert_close(found[:, 1], scores)
    with torch.no_grad():
        net.propagation.weight[2, 4] = 0.5
    torch.testing.assert_close(net(image)[:, 1, 2], scores[:, 2] + scores[:, 4] / 2)
