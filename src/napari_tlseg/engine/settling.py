"""All that is settled before the first image is prepared: what cannot be done is refused, and the network is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from napari_tlseg.engine.focusing import focus_on
from napari_tlseg.engine.patching import patch_for
from napari_tlseg.engine.predicting import load_run
from napari_tlseg.engine.running import Material, gather
from napari_tlseg.engine.source import MODEL, Source
from napari_tlseg.engine.trainings import Anchored, Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.learn.anchor import Anchor, AnchoredAdam
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.transfer import take
from napari_tlseg.nets.checkpoint import Checkpoint, Provenance, load_encoder
from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.unet import UNet
from napari_tlseg.options import INFLATED, Norm


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """All that is known before the first image is prepared."""

    source: Source
    start: Checkpoint | None
    material: Material
    model: UNet
    anchor: Anchor | None
    optimizer: torch.optim.Optimizer
    precision: torch.dtype
    provenance: Provenance
    notes: tuple[str, ...]
    taught: frozenset[str] = frozenset()
    """Fingerprints of the images whose pseudo-labels are learned, and of what the teacher saw that gave them."""


def settle_finetune(job: Finetune) -> Setting:
    """`settle_job` at the job's λ, from its start."""
    return settle_job(job, job.strength, None if job.start is None else load_run(job.start))


def settle_job(job: Anchored, strength: float, start: Checkpoint | None = None) -> Setting:
    """Refuse what cannot be done, read headers and weights, build the network; writes nothing.

    An earlier run may be set aside only after this: it may be the source or the start of this one.
    """
    device = pick_device(job.device)
    source = Source.find(job.source, job.encoder or (start.provenance.encoder if start else None))
    material = _see(job, source, _gather(job, source, start))
    torch.manual_seed(job.seed)
    encoder = _encoder(source, start, material.channels)
    sha256 = source.sha256(encoder)
    taken = take(encoder, job.taken) if source.name != "none" else frozenset()
    model = UNet(encoder, len(material.dataset.classes))
    settle(model, device)
    if job.anchor == "all":
        _take_decoder(model, source)
    anchor = _anchor(job, strength, model, taken) if taken else None
    norm = job.norm if anchor else "target"
    if start is not None:
        _warm(model, start, anchor, norm)
    return Setting(
        source=source,
        start=start,
        material=material,
        model=model,
        anchor=anchor,
        optimizer=_optimizer(job, model, anchor),
        precision=pick_precision(job.precision, device, learns_volumes=material.patch is not None),
        provenance=Provenance(
            task="segment",
            encoder=source.encoder_name,
            in_channels=material.channels,
            classes=material.dataset.classes,
            recipe=material.recipe.name,
            size=material.size,
            patch=material.patch,
            solver=job.solver,
            transfer=job.transfer,
            norm=norm,
            init="start" if start else source.init,
            source_sha256=sha256,
            trained_on=material.dataset.folder.resolve().name,
            seed=job.seed,
            focus=material.focusing.focus.to_dict() if material.focusing else None,
        ),
        notes=(*material.notes, *_held(job, source, taken)),
    )


def _gather(job: Anchored, source: Source, start: Checkpoint | None) -> Material:
    """With the recipe and the size that the decoder of the start knows, or else the encoder of the source."""
    if start is None:
        return gather(job, job.data, "mask", source.recipe, source.size)
    known = start.provenance
    recipe, size = known.recipe if job.recipe == "auto" else job.recipe, job.size or known.size
    material = gather(replace(job, recipe=recipe, size=size), job.data, "mask")
    _require_fit(start, source, material)
    note = f"Goes on from {name_of(start)}, with recipe {recipe} and images of {size} pixels."
    return replace(material, notes=(*material.notes, note))


def _see(job: Anchored, source: Source, material: Material) -> Material:
    """The material as the encoder is to see it: whole planes, crops of them, or patches of volumes."""
    patch, notes = patch_for(source.encoder_name, [material])
    if patch is None:
        return focus_on(job, material)
    if job.focus != "none":
        reason = f"--focus looks at crops of planes, and encoder {source.encoder_name} sees volumes"
        raise InputError(reason, remedy="leave one of them out")
    return replace(material, patch=patch, notes=(*material.notes, *notes))


def _require_fit(start: Checkpoint, source: Source, material: Material) -> None:
    """InputError where the earlier model is none for this source and these images; one target may have any name."""
    held, classes = start.provenance, material.dataset.classes
    encoder = source.checkpoint.provenance.encoder if source.checkpoint else source.encoder_name
    encoder += INFLATED if held.encoder == encoder + INFLATED else ""
    named_alike = held.classes == classes or len(held.classes) == len(classes) == 2
    if held.encoder != encoder:
        raise _unfit(start, f"holds encoder {held.encoder}, this run has {encoder}")
    if held.in_channels != material.channels:
        raise _unfit(start, f"takes images of {held.in_channels} channels, these have {material.channels}")
    if not named_alike:
        raise _unfit(start, f"knows the classes {', '.join(held.classes)}, these masks have {', '.join(classes)}")


def _unfit(start: Checkpoint, reason: str) -> InputError:
    return InputError(reason, start.path, "start from another run, or without --start")


def _encoder(source: Source, start: Checkpoint | None, channels: int) -> Encoder:
    """That of the source, which the anchor remembers; without one its weights do not matter where there is a start."""
    if start is not None and source.name == "none":
        return load_encoder(start, in_channels=channels)
    return source.make(channels)


def _held(job: Anchored, source: Source, taken: frozenset[str]) -> Iterator[str]:
    """A sentence where λ does not hold the whole encoder."""
    if source.name == "none":
        yield "No source: λ has nothing to hold the encoder to."
    elif not taken:
        yield "Of the source each layer's mean and variance are taken: λ has nothing to hold the encoder to."
    elif job.taken.kind == "lowest":
        count = job.taken.layers
        yield f"The {count} lowest convolution layers are the source's, and held to it; the others are drawn anew."


def _take_decoder(model: UNet, source: Source) -> None:
    """All of the source's decoder but its last convolution, which says the classes."""
    decoder, prefix = model.decoder.blocks, "decoder.blocks."
    tensors = source.checkpoint.tensors if source.checkpoint else {}
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if _shapes(own) != _shapes(decoder.state_dict()):
        where = source.checkpoint.path if source.checkpoint else None
        remedy = "pretrain it with --head unet, or on masks; or leave --anchor at encoder"
        reason = "none of this shape" if own else "none"
        raise InputError(f"--anchor all takes a decoder too, the source holds {reason}", where, remedy)
    decoder.load_state_dict(own)


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _anchor(job: Anchored, strength: float, model: UNet, taken: frozenset[str]) -> Anchor:
    """To the parameters taken, of the encoder alone or of the decoder too."""
    encoder, whole = model.encoder, job.anchor == "all"
    weights = dict(zip(encoder.parameters(), _weights(job, encoder), strict=True))
    held = [parameter for name, parameter in encoder.named_parameters() if name in taken]
    held += model.decoder.blocks.parameters() if whole else ()
    return Anchor(model if whole else encoder, strength, [weights.get(p, 1.0) for p in held], held)


def _weights(job: Anchored, encoder: Encoder) -> list[float]:
    """Of each parameter, from those of its stage."""
    if not job.stage_weights:
        return [1.0] * len(encoder.stages)
    stages = len(encoder.channels)
    if len(job.stage_weights) != stages:
        reason = f"--stage-weights has {len(job.stage_weights)} numbers, encoder {encoder.name} has {stages} stages"
        raise InputError(reason, remedy="give one number per stage, the finest first")
    return [job.stage_weights[stage] for stage in encoder.stages]


def _warm(model: UNet, start: Checkpoint, anchor: Anchor | None, norm: Norm) -> None:
    """Give the model the weights of an earlier run, but with `norm` source keep the statistics of the source."""
    new = {id(buffer) for module in (anchor.drawn() if anchor else ()) for buffer in module.buffers(recurse=False)}
    statistics = {name: b.clone() for name, b in model.encoder.named_buffers() if id(b) not in new}
    try:
        model.load_state_dict(start.tensors)
    except RuntimeError as error:
        raise _unfit(start, "its weights have other shapes than those of the source") from error
    if norm == "source":
        model.encoder.load_state_dict(statistics, strict=False)


def name_of(start: Checkpoint) -> str:
    """Of the run folder, or of a file that lies elsewhere."""
    return (start.path.resolve().parent if start.path.name == MODEL else start.path).name


def _optimizer(job: Anchored, model: UNet, anchor: Anchor | None) -> torch.optim.Optimizer:
    if anchor is None:
        return torch.optim.Adam(model.parameters(), job.learning_rate, fused=True)
    return AnchoredAdam(model.parameters(), job.learning_rate, anchor=anchor, solver=job.solver, fused=True)
