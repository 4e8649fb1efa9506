"""Where a fine-tuning's encoder comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import Checkpoint, digest, is_ours, load, load_encoder
from napari_tlseg.nets.encoders import Encoder, make_encoder
from napari_tlseg.options import Origin

MODEL = "model.safetensors"
"""In a run folder."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Nothing, weights from the hub, a file of ours, or a file of foreign weights."""

    name: str
    """`none`, `imagenet`, `medicalnet`, the name of the file, or of the run folder."""
    encoder_name: str
    checkpoint: Checkpoint | None = None
    """Of a file of ours."""
    weights: Origin | Path = "none"
    """Where it is no file of ours."""

    @classmethod
    def find(cls, given: Origin | Path, encoder: str | None) -> Source:
        """Read what `--source` and `--encoder` name; a run folder stands for its model."""
        if isinstance(given, str):
            return cls(name=given, encoder_name=encoder or "unet", weights=given)
        path = given / MODEL if given.is_dir() else given
        if path.suffix.lower() not in (".pth", ".pt", ".bin") and is_ours(path):
            checkpoint = load(path)
            name = path.resolve().parent.name if path.name == MODEL else path.name
            return cls(name=name, encoder_name=encoder or checkpoint.provenance.encoder, checkpoint=checkpoint)
        if encoder is None:
            raise InputError("does not say which encoder it holds", path, "name it with --encoder")
        return cls(name=path.name, encoder_name=encoder, weights=path)

    @property
    def init(self) -> str:
        """What the record of a model trained from it calls it."""
        return "source" if self.checkpoint else self.name

    @property
    def recipe(self) -> str | None:
        """Name of the recipe that the source was trained with."""
        return self.checkpoint.provenance.recipe if self.checkpoint else None

    @property
    def size(self) -> int | None:
        """Side of the squares that the source was trained on."""
        return self.checkpoint.provenance.size if self.checkpoint else None

    @property
    def seen(self) -> frozenset[str]:
        """Fingerprints of the cases that it was trained on."""
        return frozenset(self.checkpoint.provenance.seen) if self.checkpoint else frozenset()

    def make(self, channels: int) -> Encoder:
        """The encoder that training starts from, for images of so many channels."""
        if self.checkpoint is not None:
            return load_encoder(self.checkpoint, encoder=self.encoder_name, in_channels=channels)
        return make_encoder(self.encoder_name, channels, self.weights)

    def sha256(self, encoder: Encoder) -> str | None:
        """Of our file's weights; of foreign ones as they lie in the encoder."""
        if self.name == "none":
            return None
        return self.checkpoint.sha256 if self.checkpoint else digest(encoder.state_dict())
