"""Models as files: safetensors, with where they come from and the SHA-256 of their weights in the header."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_tlseg.data.files import atomic_path, write_text
from napari_tlseg.errors import InputError
from napari_tlseg.nets.classifier import Classifier
from napari_tlseg.nets.encoders import Encoder, blank_encoder, inflated
from napari_tlseg.nets.heads import AnyLocalizer, make_localizer
from napari_tlseg.nets.hydranet import HydraNet
from napari_tlseg.nets.unet import UNet
from napari_tlseg.options import INFLATED, Head, Norm

REMEDY = "give a model or source written by napari-tlseg"


def current_versions() -> dict[str, str]:
    """Of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("napari-tlseg", "torch", "segmentation-models-pytorch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout
            found[package] = "unknown"
    return found


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a model is and what it learned from; all of it travels in the file."""

    task: Literal["localize", "segment", "hydra", "classify"]
    encoder: str
    in_channels: int
    classes: tuple[str, ...]
    """Names, background first; of a HydraNet those of all its tasks, of a classifier its labels."""
    recipe: str
    size: int
    """Side of the square image it was trained on, pixels."""
    patch: tuple[int, int] | None = None
    """Of a model that sees volumes: how many planes, and which side of them, it sees at a time (`learn.volumes`)."""
    head: Head = "regression"
    """Of a localizer."""
    focus: Mapping[str, float] | None = None
    """Of a model that looks at crops: how they are cut (`learn.focus.Focus`); its localizer lies beside it."""
    strength: float = 0.0
    """λ; ∞ is `"inf"` in JSON."""
    solver: str = "stable"
    norm: Norm = "target"
    transfer: str = "full"
    """What of its source it began with."""
    init: str = "none"
    """What the encoder began with: `none`, `imagenet`, the name of a weights file, or `source`."""
    source_sha256: str | None = None
    seen: tuple[str, ...] = ()
    """Fingerprints of its training and validation cases, and of those that its source saw."""
    trained_on: str = ""
    """Name of the data folder, or of several."""
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of a HydraNet: the classes of each decoder, by the name of its dataset."""
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """An undefined score is None."""
    steps: int = 0
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=current_versions)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def to_json(self) -> str:
        record = asdict(self)
        record["strength"] = "inf" if math.isinf(self.strength) else self.strength
        record["scores"] = {name: _finite(score) for name, score in self.scores.items()}
        return json.dumps(record, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; fields of a later version are passed over. ValueError where it is not that."""
        record = json.loads(text)
        if not isinstance(record, dict):
            raise ValueError("the provenance is no JSON object")
        known = {name: value for name, value in record.items() if name in {f.name for f in fields(cls)}}
        try:
            known["strength"] = float(known["strength"])
            known["classes"], known["seen"] = tuple(known["classes"]), tuple(known["seen"])
            known["patch"] = tuple(known["patch"]) if known.get("patch") else None
            known["tasks"] = {name: tuple(classes) for name, classes in known.get("tasks", {}).items()}
            provenance = cls(**known)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"the provenance is incomplete: {error}") from error
        provenance._check()
        return provenance

    def _check(self) -> None:
        numbers = self.in_channels, self.size
        if self.task not in ("localize", "segment", "hydra", "classify") or not isinstance(self.encoder, str):
            raise ValueError("the provenance names no known task or encoder")
        fewest = 1 if self.task == "classify" else 2
        if min(map(len, (self.classes, *self.tasks.values()))) < fewest or (self.task == "hydra") != bool(self.tasks):
            raise ValueError("the provenance names no classes")
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"the provenance has in_channels, size = {numbers}")
        if self.head not in get_args(Head):
            raise ValueError(f"the provenance names a head {self.head!r} that is not known")
        if not self.strength >= 0:
            raise ValueError(f"the provenance has λ = {self.strength}")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model file in memory, its weights checked against their SHA-256."""

    path: Path
    provenance: Provenance
    tensors: Mapping[str, Tensor] = field(repr=False)
    sha256: str


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of the tensors, sorted by name, in the default memory format."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def save(path: Path, model: nn.Module, provenance: Provenance) -> str:
    """Write a model's parameters and buffers with their provenance, whole or not at all; returns their SHA-256."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    sha256 = digest(tensors)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"provenance": provenance.to_json(), "sha256": sha256})
    return sha256


def write_card(path: Path, checkpoint: Checkpoint) -> None:
    """Provenance and SHA-256 of a model as JSON, to lie beside what the model made."""
    write_text(path, json.dumps({"sha256": checkpoint.sha256, **json.loads(checkpoint.provenance.to_json())}) + "\n")


def read_card(path: Path) -> tuple[Provenance, str] | None:
    """What `write_card` wrote: provenance and SHA-256; None where there is no such file."""
    if not path.exists():
        return None
    try:
        text = path.read_text(encoding="utf-8")
        return Provenance.from_json(text), json.loads(text)["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"does not say which model made the masks ({error})", path, "predict them anew") from error


def is_ours(path: Path) -> bool:
    """Whether a safetensors file says where its weights come from, as all that `save` wrote do."""
    with _opened(path) as file:
        return "provenance" in (file.metadata() or {})


def read_provenance(path: Path) -> Provenance:
    """From the header alone: the weights are neither read nor checked."""
    with _opened(path) as file:
        return _header(file, path)[0]


def load(path: Path) -> Checkpoint:
    """Read a model file. InputError where it is none of ours, damaged, or its weights are not those that were saved."""
    with _opened(path) as file:
        provenance, promised = _header(file, path)
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    found = digest(tensors)
    if found != promised:
        raise InputError(f"its weights were changed after they were saved (SHA-256 {found[:12]}…)", path, REMEDY)
    return Checkpoint(path=path, provenance=provenance, tensors=tensors, sha256=found)


def load_encoder(source: Path | Checkpoint, *, encoder: str | None = None, in_channels: int | None = None) -> Encoder:
    """The encoder of a source, bit for bit; inflated where the user asks for that (`resnet34-3d` of a resnet34).

    `encoder` and `in_channels` say what the user asked for: InputError where the source holds another. An encoder
    whose body takes three channels serves grey images too: they are repeated, as with ImageNet weights.
    """
    checkpoint = load(source) if isinstance(source, Path) else source
    held, mean = checkpoint.provenance, checkpoint.tensors.get("encoder.mean")
    deep = encoder == f"{held.encoder}{INFLATED}"
    if encoder is not None and encoder != held.encoder and not deep:
        raise InputError(
            f"source holds encoder {held.encoder}, you asked for {encoder}",
            checkpoint.path,
            f"ask for {held.encoder} or give another source",
        )
    channels, body_channels = in_channels or held.in_channels, held.in_channels if mean is None else mean.numel()
    if channels not in ({1, 3} if body_channels == 3 else {body_channels}):
        raise InputError(
            f"source takes images of {held.in_channels} channels, these have {channels}",
            checkpoint.path,
            "give another source, or read the images in another way",
        )
    made = blank_encoder(held.encoder, channels, body_channels)
    _fill(made, checkpoint, "encoder.")
    return inflated(made) if deep else made


def load_model(source: Path | Checkpoint) -> UNet | HydraNet | Classifier | AnyLocalizer:
    """The whole model of a file, in evaluation mode, built as its provenance says."""
    checkpoint = load(source) if isinstance(source, Path) else source
    provenance, encoder = checkpoint.provenance, load_encoder(checkpoint)
    model: UNet | HydraNet | Classifier | AnyLocalizer
    if provenance.task == "segment":
        model = UNet(encoder, len(provenance.classes))
    elif provenance.task == "hydra":
        model = HydraNet(encoder, [len(classes) for classes in provenance.tasks.values()])
    elif provenance.task == "classify":
        model = Classifier(encoder, len(provenance.classes))
    else:
        model = make_localizer(provenance.head, encoder, provenance.size)
    _fill(model, checkpoint)
    return model.eval()


def _fill(module: nn.Module, checkpoint: Checkpoint, prefix: str = "") -> None:
    state = {name.removeprefix(prefix): t for name, t in checkpoint.tensors.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        kind = f"{checkpoint.provenance.task} model with encoder {checkpoint.provenance.encoder}"
        raise InputError(f"its weights are not those of a {kind}", checkpoint.path, REMEDY) from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = "cannot be read as a model: it is damaged or not a safetensors file"
        raise InputError(reason if path.is_file() else "there is no such model file", path, REMEDY) from error


def _header(file: Any, path: Path) -> tuple[Provenance, str]:
    """(provenance, SHA-256 of the weights as saved)."""
    metadata = file.metadata() or {}
    if not {"provenance", "sha256"} <= metadata.keys():
        raise InputError("does not say where its weights come from", path, REMEDY)
    try:
        return Provenance.from_json(metadata["provenance"]), metadata["sha256"]
    except ValueError as error:
        raise InputError(f"does not say where its weights come from ({error})", path, REMEDY) from error


def _finite(score: float | None) -> float | None:
    return score if score is not None and math.isfinite(score) else None
