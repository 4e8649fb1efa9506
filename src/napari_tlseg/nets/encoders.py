"""One way to make any encoder: the plain U-Net arm of Hu et al., MAKNet, all of segmentation-models-pytorch; of volumes
those of Med3D, and every 2-D one inflated.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from napari_tlseg.errors import InputError
from napari_tlseg.nets.inflate import inflate
from napari_tlseg.nets.layers import double_conv
from napari_tlseg.nets.maknet import MAKNetBody
from napari_tlseg.nets.weights import fill
from napari_tlseg.options import INFLATED, MED3D, Origin, is_volumetric

Weights = Origin | Path

PLAIN, MAKNET = "unet", "maknet"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROBE = 64
"""Side of the image that an encoder is measured with, pixels."""
DEPTHS = (10, 18, 34, 50)
"""Of the ResNets of Med3D."""


class Encoder(nn.Module):
    """Image (B, C, Y, X) or volume (B, C, Z, Y, X) in [0, 1] to features, finest first; the image is not among them.

    The body sees (image − mean) / std. A body with ImageNet weights wants three channels: a grey image is repeated
    over them, here by the broadcast against a `mean` of three. Channels and strides are measured, not declared: VGG
    starts at full resolution, ConvNeXt at stride 4. Parts of the body that lead to no feature are left out, so that
    every parameter can be learned and none weighs on the anchor for nothing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, body: nn.Module, in_channels: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.name, self.in_channels = name, in_channels
        self.axes = 3 if is_volumetric(name) else 2
        """That it sees: (Y, X), or (Z, Y, X)."""
        self.body = body
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, *[1] * self.axes))
        self.register_buffer("std", torch.tensor(std).view(1, -1, *[1] * self.axes))
        _drop_unused(self)
        features = _probe(self)
        self.channels: tuple[int, ...] = tuple(feature.shape[1] for feature in features)
        """Of each feature."""
        probe = self.probe().shape[2:]
        self.scales = tuple(tuple(p // f for p, f in zip(probe, found.shape[2:], strict=True)) for found in features)
        """Of each feature: image pixels per feature pixel along each axis."""
        self.strides: tuple[int, ...] = tuple(scale[-1] for scale in self.scales)
        """The same within a plane."""
        self.stages: tuple[int, ...] = _stages(self)
        """Of each parameter: the first feature, counted from 0, that it leads to."""

    def forward(self, image: Tensor) -> list[Tensor]:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the encoder takes {self.in_channels} channels, the image has {image.shape[1]}")
        scaled = (image - self.mean) / self.std
        return [feature for feature in self.body(scaled) if feature is not scaled and feature.shape[1]]

    def probe(self) -> Tensor:
        """A black image or volume to measure with, no larger than it takes: volumes cost most."""
        shape = (
            (PROBE, PROBE) if self.axes == 2 else (2, PROBE, PROBE) if self.name.endswith(INFLATED) else (32, 32, 32)
        )
        return torch.zeros(1, self.in_channels, *shape)


class PlainBody(nn.Module):
    """Per level two of (3×3 convolution, batch-norm, ReLU), 2×2 max-pooling between levels (Hu et al.).

    Half their widths or less, for a CPU; dropout at the deepest level.
    """

    def __init__(
        self, in_channels: int, widths: tuple[int, ...] = (16, 32, 64, 128, 256), dropout: float = 0.2
    ) -> None:
        super().__init__()
        inputs = (in_channels, *widths[:-1])
        self.levels = nn.ModuleList(double_conv(*pair) for pair in zip(inputs, widths, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.levels[0](x)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return [*features[:-1], self.dropout(features[-1])]


OURS: dict[str, Callable[[int], nn.Module]] = {PLAIN: PlainBody, MAKNET: MAKNetBody}
"""Bodies by the encoder's name, made for so many channels."""


def make_encoder(name: str = PLAIN, in_channels: int = 1, weights: Weights = "none") -> Encoder:
    """An encoder by name, from scratch or with pretrained weights of the hub, or of a `.pth` or `.safetensors` file.

    `resnet34-3d` is resnet34 inflated, weights and all; `resnet18-med3d` is of Med3D, with the weights of MedicalNet.
    Raises InputError for a name nobody knows, for weights that do not fit or cannot be had, and for pretrained
    weights with other than 1 (repeated) or 3 channels, of MedicalNet other than 1.
    """
    if weights == "none":
        return blank_encoder(name, in_channels, body_channels=in_channels)
    if name.endswith(INFLATED):
        return inflated(make_encoder(name.removesuffix(INFLATED), in_channels, weights))
    if name.endswith(MED3D):
        return _of_medicalnet(name, in_channels, weights)
    if weights == "medicalnet":
        raise InputError(f"there are no MedicalNet weights for encoder {name!r}", remedy=f"ask for resnet18{MED3D}")
    if in_channels not in (1, 3):
        raise InputError(
            f"ImageNet weights take images of 1 or 3 channels, not {in_channels}", remedy="start without them (none)"
        )
    if isinstance(weights, Path):
        body = _make_body(name, 3)
        fill(body, name, weights)
        return Encoder(name, body, in_channels, IMAGENET_MEAN, IMAGENET_STD)
    body, mean, std = _from_hub(name)
    return Encoder(name, body, in_channels, mean, std)


def blank_encoder(name: str, in_channels: int, body_channels: int) -> Encoder:
    """An encoder from scratch; `body_channels` is 3 where it is about to receive weights that began on ImageNet."""
    if name.endswith(INFLATED):
        return inflated(blank_encoder(name.removesuffix(INFLATED), in_channels, body_channels))
    body = _make_body(name, body_channels)
    return Encoder(name, body, in_channels, (0.5,) * body_channels, (0.25,) * body_channels)


def inflated(flat: Encoder) -> Encoder:
    """An encoder of volumes that computes of each plane what the 2-D one does, and keeps the number of planes.

    Tried on noise; InputError where it has layers that cannot be made so.
    """
    refusal = InputError(
        f"encoder {flat.name!r} has layers that see planes only", remedy=f"choose another, such as resnet34{INFLATED}"
    )
    mean, std = (tuple(values.flatten().tolist()) for values in (flat.mean, flat.std))
    try:
        deep = Encoder(f"{flat.name}{INFLATED}", inflate(flat.body), flat.in_channels, mean, std)
    except InputError as error:
        raise refusal from error
    noise = torch.Generator().manual_seed(0)
    planes = torch.rand(2, flat.in_channels, PROBE, PROBE, generator=noise)
    with torch.no_grad():
        pairs = zip(_features(flat, planes), _features(deep, planes.movedim(0, 1)[None]), strict=True)
        if all(torch.allclose(found[0].movedim(1, 0), wanted, 1e-3, 1e-4) for wanted, found in pairs):
            return deep
    raise refusal


def encoder_names() -> list[str]:
    """Names that `make_encoder` knows, without the hundreds of `tu-*` (timm) ones and most of the inflated."""
    from segmentation_models_pytorch import encoders

    flat = [PLAIN, MAKNET, *(name for name in encoders.get_encoder_names() if not name.startswith("timm-"))]
    deep = [f"{name}{INFLATED}" for name in (PLAIN, "resnet18", "resnet34", "resnet50")]
    return [*flat, *deep, *(f"resnet{depth}{MED3D}" for depth in DEPTHS)]


def _make_body(name: str, channels: int) -> nn.Module:
    _check_name(name)
    if name in OURS:
        return OURS[name](channels)
    if name.endswith(MED3D):
        from napari_tlseg.nets.med3d import Med3DBody  # MONAI takes seconds to import

        return Med3DBody(_depth(name), channels)
    from segmentation_models_pytorch import encoders

    try:
        return cast("nn.Module", encoders.get_encoder(name, in_channels=channels, depth=5, weights=None))
    except (RuntimeError, ValueError) as error:  # timm models whose features make no pyramid
        raise _unfit(name) from error


def _check_name(name: str) -> None:
    if name in OURS:
        return
    known = encoder_names()
    if name.startswith("tu-"):
        import timm

        known = [f"tu-{model}" for model in timm.list_models()]
    if name.partition(".")[0] in known:
        return
    close = get_close_matches(name, known, n=4, cutoff=0.5)
    remedy = f"did you mean {', '.join(close)}?" if close else f"the plain one is called {PLAIN!r}"
    raise InputError(f"no encoder is called {name!r}", remedy=remedy)


def _depth(name: str) -> int:
    """Of a ResNet of Med3D."""
    return int(name.removesuffix(MED3D).removeprefix("resnet"))


def _probe(encoder: Encoder) -> list[Tensor]:
    return _features(encoder, encoder.probe())


def _features(encoder: Encoder, image: Tensor) -> list[Tensor]:
    """In evaluation mode: batch statistics and the random numbers stay as they are."""
    training = encoder.training
    try:
        features: list[Tensor] = encoder.eval()(image)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise _unfit(encoder.name) from error
    encoder.train(training)
    return features


def _unfit(name: str) -> InputError:
    return InputError(f"encoder {name!r} gives no features of falling resolution", remedy="choose a convolutional one")


def _drop_unused(encoder: Encoder) -> None:
    """Replace what leads to no feature (of EfficientNet its last convolution) by an identity."""
    total = torch.stack([feature.sum() for feature in _probe(encoder)]).sum()
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(total, parameters, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        owner, _, _ = name.rpartition(".")
        if gradient is None and next(encoder.get_submodule(owner).parameters(), None) is not None:
            encoder.set_submodule(owner, nn.Identity())


def _stages(encoder: Encoder) -> tuple[int, ...]:
    """Measured, as names of layers differ from body to body: a parameter leads to a feature that has its gradient."""
    parameters = tuple(encoder.parameters())
    stages = [len(encoder.channels) - 1] * len(parameters)
    for number, feature in reversed([*enumerate(_probe(encoder))]):
        gradients = torch.autograd.grad(feature.sum(), parameters, allow_unused=True, retain_graph=True)
        stages = [stage if g is None else number for stage, g in zip(stages, gradients, strict=True)]
    return tuple(stages)


def _from_hub(name: str) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    """(body, mean, std) with ImageNet weights, downloaded once by the Hugging Face client."""
    _check_name(name)
    if not _has_imagenet(name):
        raise InputError(f"there are no ImageNet weights for encoder {name!r}", remedy="start without them (none)")
    from segmentation_models_pytorch import encoders

    try:
        body = encoders.get_encoder(name, depth=5, weights=True if name.startswith("tu-") else "imagenet")
        settings = encoders.get_preprocessing_params(name)
    except Exception as error:  # every layer of the download has its own kinds
        raise InputError(
            f"ImageNet weights for encoder {name!r}: the download needs internet: give a file instead"
        ) from error
    top = settings["input_range"][-1]
    mean, std = (tuple(value / top for value in settings[key]) for key in ("mean", "std"))
    return body, mean, std


def _has_imagenet(name: str) -> bool:
    if name in OURS:
        return False
    if name.startswith("tu-"):
        import timm

        return bool(timm.models.is_model_pretrained(name.removeprefix("tu-")))
    from segmentation_models_pytorch.encoders import encoders

    return "imagenet" in encoders[name]["pretrained_settings"]


def _of_medicalnet(name: str, in_channels: int, weights: Literal["imagenet", "medicalnet"] | Path) -> Encoder:
    """With the weights of a file or of the hub; they learned from grey volumes about as scaled as ours are."""
    if weights == "imagenet":
        raise InputError(f"there are no ImageNet weights for encoder {name!r}", remedy="give medicalnet, or none")
    if in_channels != 1:
        reason = f"MedicalNet weights take images of 1 channel, not {in_channels}"
        raise InputError(reason, remedy="start without them (none), or choose a --recipe that makes images grey")
    body = _make_body(name, 1)
    if weights == "medicalnet":
        from napari_tlseg.nets.med3d import medicalnet

        try:
            weights = medicalnet(_depth(name))
        except Exception as error:  # every layer of the download has its own kinds
            reason = f"MedicalNet weights for encoder {name!r}: the download needs internet: give a file instead"
            raise InputError(reason) from error
    fill(body, name, weights)
    return Encoder(name, body, 1, (0.5,), (0.25,))
