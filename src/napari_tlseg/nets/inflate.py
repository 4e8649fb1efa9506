"""2-D networks made 3-D, with the weights that they have.

References
----------
.. [1] Wacker, Ladeira and Nascimento, "Transfer learning for brain tumor segmentation", MICCAI BrainLes 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn


def inflate(flat: nn.Module) -> nn.Module:
    """A copy that sees (B, C, Z, Y, X): a k×k kernel becomes one of 1×k×k, pooling stays within the planes [1]_.

    So it computes of each plane what the 2-D network does of an image, and keeps the number of planes. Layers of other
    kinds are copied as they are: whether they do the same in 3-D is for the caller to try.
    """
    deep = copy.deepcopy(flat)
    for name, layer in flat.named_modules():
        if name and (make := INFLATED.get(type(layer))) is not None:
            deep.set_submodule(name, make(layer).train(layer.training))
    return deep


def _convolution(flat: nn.Conv2d) -> nn.Conv3d:
    padding = flat.padding if isinstance(flat.padding, str) else _deep(flat.padding, 0)
    deep = nn.Conv3d(
        flat.in_channels,
        flat.out_channels,
        _deep(flat.kernel_size),
        stride=_deep(flat.stride),
        padding=padding,
        dilation=_deep(flat.dilation),
        groups=flat.groups,
        bias=flat.bias is not None,
        padding_mode=flat.padding_mode,
    )
    deep.load_state_dict({name: t.unsqueeze(2) if name == "weight" else t for name, t in flat.state_dict().items()})
    return deep


def _norm(flat: nn.BatchNorm2d) -> nn.BatchNorm3d:
    deep = nn.BatchNorm3d(flat.num_features, flat.eps, flat.momentum, flat.affine, flat.track_running_stats)
    deep.load_state_dict(flat.state_dict())
    return deep


def _max_pool(flat: nn.MaxPool2d) -> nn.MaxPool3d:
    window = _deep(flat.kernel_size), _deep(flat.stride), _deep(flat.padding, 0), _deep(flat.dilation)
    return nn.MaxPool3d(*window, ceil_mode=flat.ceil_mode)


def _average_pool(flat: nn.AvgPool2d) -> nn.AvgPool3d:
    window = _deep(flat.kernel_size), _deep(flat.stride), _deep(flat.padding, 0)
    return nn.AvgPool3d(*window, flat.ceil_mode, flat.count_include_pad, flat.divisor_override)


def _adaptive_pool(flat: nn.AdaptiveAvgPool2d) -> nn.AdaptiveAvgPool3d:
    return nn.AdaptiveAvgPool3d(_deep(flat.output_size, None))


def _deep(value: Any, first: int | None = 1) -> tuple[Any, Any, Any]:
    """(Y, X), or one number for both, with what goes for the planes before it."""
    y, x = value if isinstance(value, tuple) else (value, value)
    return first, y, x


INFLATED: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
}
"""How layers of exactly these kinds are made 3-D."""
