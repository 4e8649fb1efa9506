"""What of a source's encoder a training begins with, and what is drawn anew.

References
----------
.. [1] Raghu, Zhang, Kleinberg and Bengio, "Transfusion: understanding transfer learning for medical imaging",
   NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from napari_tlseg.errors import InputError
from napari_tlseg.nets.encoders import Encoder, blank_encoder
from napari_tlseg.options import Transfer

CONVOLUTIONS = nn.Conv2d, nn.Conv3d


def take(encoder: Encoder, transfer: Transfer) -> frozenset[str]:
    """Leave a source's encoder what is taken of it, in place; the names of the parameters taken.

    `full` takes all of it. `mean-var` takes none, but draws each parameter's values from a normal distribution with
    the mean and the variance of the source's. `lowest:K` takes the first K convolution layers that an image meets,
    with the normalisation that follows each, and draws the rest anew, as for a training from scratch [1]_. What is not
    taken has the running statistics of a new network.
    """
    if transfer.kind == "full":
        return frozenset(name for name, _ in encoder.named_parameters())
    source = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    body_channels = encoder.mean.numel()
    encoder.load_state_dict(blank_encoder(encoder.name, encoder.in_channels, body_channels).state_dict())
    encoder.load_state_dict({name: source[name] for name in ("mean", "std")}, strict=False)  # of the images
    if transfer.kind == "mean-var":
        _draw_alike(encoder, source)
        return frozenset()
    modules = lowest_layers(encoder, transfer.layers)
    encoder.load_state_dict({n: t for n, t in source.items() if n.rpartition(".")[0] in modules}, strict=False)
    return frozenset(name for name, _ in encoder.named_parameters() if name.rpartition(".")[0] in modules)


@torch.no_grad()
def _draw_alike(encoder: Encoder, source: dict[str, torch.Tensor]) -> None:
    for name, parameter in encoder.named_parameters():
        variance, mean = torch.var_mean(source[name].double(), correction=0)
        parameter.normal_(mean.item(), variance.sqrt().item())


def lowest_layers(encoder: Encoder, count: int) -> frozenset[str]:
    """The names of the modules that an image meets before the convolution after the first `count`.

    Measured, as the order of names is not everywhere that of the layers. InputError where there are not so many.
    """
    met = list(_met(encoder))
    convolutions = [place for place, name in enumerate(met) if isinstance(encoder.get_submodule(name), CONVOLUTIONS)]
    if count > len(convolutions):
        reason = f"--transfer lowest:{count} cannot be: encoder {encoder.name} has {len(convolutions)} convolutions"
        raise InputError(reason, remedy=f"take 1 to {len(convolutions)} of them")
    end = len(met) if count == len(convolutions) else convolutions[count]
    return frozenset(met[:end])


def _met(encoder: Encoder) -> Iterator[str]:
    """Names of the modules with parameters of their own, in the order in which an image first meets them."""
    order: dict[str, None] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _module, _images, name=name: order.setdefault(name))
        for name, module in encoder.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    training = [(module, module.training) for module in encoder.modules()]
    try:
        with torch.no_grad():
            encoder.eval()(encoder.probe())
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training:
            module.training = mode
    yield from order
