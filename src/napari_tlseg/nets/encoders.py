"""One way to make any encoder: the plain U-Net arm of Hu et al., MAKNet, all of segmentation-models-pytorch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Set
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from napari_tlseg.errors import InputError
from napari_tlseg.nets.maknet import MAKNetBody

Weights = Literal["none", "imagenet"] | Path

PLAIN, MAKNET = "unet", "maknet"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROBE = 64  # side of the image that an encoder is measured with, pixels
CLASSIFIER = re.compile(r"(classifier|fc|_fc|head)\.")


class Encoder(nn.Module):
    """Image (B, C, Y, X) in [0, 1] to features, finest first; the image itself is not among them.

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
        self.body = body
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        _drop_unused(self)
        features = _probe(self)
        self.channels: tuple[int, ...] = tuple(feature.shape[1] for feature in features)
        """Of each feature."""
        self.strides: tuple[int, ...] = tuple(PROBE // feature.shape[-1] for feature in features)
        """Image pixels per feature pixel."""
        self.stages: tuple[int, ...] = _stages(self)
        """Of each parameter: the first feature, counted from 0, that it leads to."""

    def forward(self, image: Tensor) -> list[Tensor]:
        if image.shape[1] != self.in_channels:
            raise ValueError(f"the encoder takes {self.in_channels} channels, the image has {image.shape[1]}")
        scaled = (image - self.mean) / self.std
        return [feature for feature in self.body(scaled) if feature is not scaled and feature.shape[1]]


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
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.levels[0](x)]
        for level in self.levels[1:]:
            features.append(level(nn.functional.max_pool2d(features[-1], 2)))
        return [*features[:-1], self.dropout(features[-1])]


OURS: dict[str, Callable[[int], nn.Module]] = {PLAIN: PlainBody, MAKNET: MAKNetBody}
"""Bodies by the encoder's name, made for so many channels."""


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Two of (3×3 convolution, batch-norm, ReLU)."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        convolution = nn.Conv2d(width, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def make_encoder(name: str = PLAIN, in_channels: int = 1, weights: Weights = "none") -> Encoder:
    """An encoder by name, from scratch or with ImageNet weights: from the hub, or from a `.pth` or `.safetensors` file.

    Raises InputError for a name nobody knows, for weights that do not fit or cannot be had, and for pretrained
    weights with other than 1 (repeated) or 3 channels.
    """
    if weights == "none":
        return blank_encoder(name, in_channels, body_channels=in_channels)
    if in_channels not in (1, 3):
        raise InputError(
            f"ImageNet weights take images of 1 or 3 channels, not {in_channels}", remedy="start without them (none)"
        )
    if isinstance(weights, Path):
        body = _make_body(name, 3)
        _load(body, name, weights)
        return Encoder(name, body, in_channels, IMAGENET_MEAN, IMAGENET_STD)
    body, mean, std = _from_hub(name)
    return Encoder(name, body, in_channels, mean, std)


def blank_encoder(name: str, in_channels: int, body_channels: int) -> Encoder:
    """An encoder from scratch; `body_channels` is 3 where it is about to receive weights that began on ImageNet."""
    body = _make_body(name, body_channels)
    return Encoder(name, body, in_channels, (0.5,) * body_channels, (0.25,) * body_channels)


def encoder_names() -> list[str]:
    """Names that `make_encoder` knows, without the hundreds of `tu-*` (timm) ones."""
    from segmentation_models_pytorch import encoders

    return [PLAIN, MAKNET, *(name for name in encoders.get_encoder_names() if not name.startswith("timm-"))]


def _make_body(name: str, channels: int) -> nn.Module:
    _check_name(name)
    if name in OURS:
        return OURS[name](channels)
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


def _probe(encoder: Encoder) -> list[Tensor]:
    """Features of a black image, in evaluation mode: batch statistics and the random numbers stay as they are."""
    training = encoder.training
    try:
        features: list[Tensor] = encoder.eval()(torch.zeros(1, encoder.in_channels, PROBE, PROBE))
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


def _load(body: nn.Module, name: str, path: Path) -> None:
    """Copy the weights of a file with torchvision's key names into the body; only classifier keys may be left over."""
    wanted = body.state_dict().keys()
    state = {_rename(key, wanted): tensor for key, tensor in read_tensors(path).items()}
    state = {key: tensor for key, tensor in state.items() if key in wanted or not CLASSIFIER.match(key)}
    remedy = f"give ImageNet weights of {name}"
    try:
        missing, unexpected = nn.Module.load_state_dict(body, state, strict=False)
    except RuntimeError as error:
        raise InputError(f"its tensors have other shapes than those of encoder {name!r}", path, remedy) from error
    if missing or unexpected:
        kinds = ("missing", missing), ("unexpected", unexpected)
        wrong = [f"{len(keys)} tensors {kind} ({_some(keys)})" for kind, keys in kinds if keys]
        raise InputError(f"does not hold encoder {name!r}: {', '.join(wrong)}", path, remedy)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _rename(key: str, wanted: Set[str]) -> str:
    """DenseNet's keys as old torchvision files write them (`norm.1`), and timm's without smp's prefix."""
    key = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)", r"\1", key)
    prefixed = f"model.{key}"
    return prefixed if prefixed in wanted else key


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a foreign `.pth` or `.safetensors` file; code in a pickle is refused, never run."""
    readers: dict[str, Callable[[Path], object]] = {".safetensors": _read_safetensors}
    readers |= dict.fromkeys((".pth", ".pt", ".bin"), _read_pickle)
    if not path.is_file():
        raise InputError("there is no such file of weights", path)
    if path.suffix.lower() not in readers:
        raise InputError("is not a file of weights", path, "give a .pth or .safetensors file")
    try:
        tensors = readers[path.suffix.lower()](path)
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            "cannot be read as weights: it is damaged, or holds code, which is never run", path, "download it again"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise InputError("holds other things than named tensors", path, "save the model's state_dict")
    return {str(key): tensor for key, tensor in tensors.items()}


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    return load_file(path)


def _read_pickle(path: Path) -> object:
    with warnings.catch_warnings(action="ignore"):  # of a pickle's protocol, before the refusal says the same
        return torch.load(path, map_location="cpu", weights_only=True)
