"""Few masks and a source to a run: a segmentation model, its scores, and all that is needed to trust them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.case import Case
from napari_tlseg.data.run import RunFolder
from napari_tlseg.engine.focusing import focus_on, focused, keep_localizer
from napari_tlseg.engine.patching import patch_for
from napari_tlseg.engine.predicting import load_run
from napari_tlseg.engine.running import Material, Outcome, Samples, follow, gather, noted, read_samples
from napari_tlseg.engine.scoring import score_run, summarize_validation
from napari_tlseg.engine.source import MODEL, Source
from napari_tlseg.engine.trainings import Anchored, Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Event, Finished
from napari_tlseg.learn.anchor import Anchor, AnchoredAdam
from napari_tlseg.learn.device import pick_device, pick_precision, settle
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.metrics import Score, summarize
from napari_tlseg.learn.objectives import Objective, Segment, pick_loss
from napari_tlseg.learn.predict import Segmenter, make_segmenter
from napari_tlseg.learn.transfer import take
from napari_tlseg.nets.checkpoint import Checkpoint, Provenance, load_encoder, save
from napari_tlseg.nets.encoders import Encoder
from napari_tlseg.nets.unet import UNet
from napari_tlseg.options import INFLATED, Norm


def finetune(job: Finetune, control: Control) -> Iterator[Event]:
    """Train, keep good weights at once, then score validation and held-out cases on their native grid."""
    RunFolder.check(job.out, job.overwrite)
    setting = settle_finetune(job)
    run = RunFolder.create(job.out, job.overwrite)
    yield from recorded(run, {"job": "finetune", **asdict(job)}, _events(job, setting, run, control))


def recorded(run: RunFolder, job: Mapping[str, Any], events: Generator[Event, None, None]) -> Iterator[Event]:
    """The events, which the run folder keeps; where they fail before there is a model, the folder goes again."""
    try:
        run.write_job(job)
        with closing(events):
            for event in events:
                run.append_event({"event": type(event).__name__, **asdict(event)})
                yield event
    except BaseException:
        if not run.model.exists():
            run.discard()
        raise


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
    note = f"Goes on from {_name(start)}, with recipe {recipe} and images of {size} pixels."
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


def _name(start: Checkpoint) -> str:
    """Of the run folder, or of a file that lies elsewhere."""
    return (start.path.resolve().parent if start.path.name == MODEL else start.path).name


def _optimizer(job: Anchored, model: UNet, anchor: Anchor | None) -> torch.optim.Optimizer:
    if anchor is None:
        return torch.optim.Adam(model.parameters(), job.learning_rate, fused=True)
    return AnchoredAdam(model.parameters(), job.learning_rate, anchor=anchor, solver=job.solver, fused=True)


def _events(job: Finetune, setting: Setting, run: RunFolder, control: Control) -> Generator[Event, None, None]:
    began = time.monotonic()
    yield from noted(setting.notes)
    samples = yield from read_samples(setting.material, "mask", control, keep_held_out=False)
    yield from train(job, Keeper(setting, samples, run), make_objective(job, setting, samples), control, began)


def train(
    job: Finetune,
    keep: Keeper,
    objective: Objective,
    control: Control,
    began: float,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Generator[Event, None, None]:
    """Fit the model to an objective, then conclude the run, with `more` in its summary."""
    setting = keep.setting
    localizer = keep_localizer(setting.material.focusing, keep.run)
    training = fit(
        setting.model,
        objective,
        setting.optimizer,
        Schedule(steps=job.steps, patience=job.patience),
        anchor=setting.anchor,
        norm=setting.provenance.norm,
        precision=setting.precision,
        seed=job.seed,
        control=control,
    )
    outcome = yield from follow(training, job.steps, control, keep)
    yield from conclude(keep, outcome, control, began, {**localizer, **more})


@dataclass(frozen=True, eq=False)
class Keeper:
    """Writes the model of a run, with what it has seen."""

    setting: Setting
    samples: Samples
    run: RunFolder

    def __call__(self, outcome: Outcome) -> str:
        """Whole or not at all; the SHA-256 of the weights."""
        strength = outcome.strengths[-1][1] if outcome.strengths else 0.0
        seen = tuple(sorted(self.samples.seen | self.before))
        facts = replace(self.setting.provenance, strength=strength, seen=seen)
        return save(self.run.model, self.setting.model, replace(facts, steps=outcome.steps, scores=outcome.scores))

    @property
    def before(self) -> frozenset[str]:
        """Fingerprints of what the source, the start, the localizer and the teacher were trained on."""
        start, focusing = self.setting.start, self.setting.material.focusing
        others = (start.provenance.seen if start else ()), (focusing.locator.provenance.seen if focusing else ())
        return self.setting.source.seen.union(*others, self.setting.taught - self.samples.seen)

    @property
    def known(self) -> frozenset[str]:
        """The names of the cases that are among those."""
        return frozenset(name for name, found in self.samples.fingerprints.items() if found in self.before)


def conclude(
    keep: Keeper, outcome: Outcome, control: Control, began: float, more: Mapping[str, Any]
) -> Generator[Event, None, None]:
    """Keep the model as it is now, score it, and write the summary, with `more` in it."""
    setting, sha256 = keep.setting, keep(outcome)
    seconds = time.monotonic() - began
    segmenter = segmenter_of(setting)
    scores = yield from score_run(segmenter, setting.material, keep.known, keep.run, control, _known_by(setting))
    if control.stop:
        outcome.reason = "stopped"
    summary = _summary(setting, outcome, scores) | {"sha256": sha256, **more, "seconds": seconds}
    keep.run.write_summary(summary)
    yield Finished(reason=outcome.reason, out=keep.run.path, summary=summary)


def segmenter_of(setting: Setting) -> Segmenter:
    """The model as it is now, with all that it takes to segment an image."""
    plain = make_segmenter(setting.model, setting.provenance, precision=setting.precision)
    return focused(plain, setting.material.focusing)


def make_objective(job: Anchored, setting: Setting, samples: Samples, augment: Augment | None = None) -> Segment:
    """What is to be learned from the samples, varied as the recipe says or so; an untrained model is told how rare
    each class is.
    """
    classes = len(setting.material.dataset.classes)
    augment, loss = augment or setting.material.recipe.augment, pick_loss(job.loss, classes)
    if (focusing := setting.material.focusing) is not None:
        augment = focusing.focus.augment(augment)
    batch = job.per_step(setting.material.patch is not None)
    objective = Segment(samples.training, samples.validation, augment, batch, classes, loss)
    if setting.start is None:  # whose decoder knows them
        setting.model.expect(objective.shares)
    return objective


def _summary(setting: Setting, outcome: Outcome, scores: list[Score]) -> dict[str, Any]:
    parts, facts = setting.material.parts, setting.provenance
    return {
        "lambda": outcome.strengths[-1][1] if outcome.strengths else 0.0,
        **({"lambda_history": outcome.strengths} if len(outcome.strengths) > 1 else {}),
        "drift": setting.anchor.drift() if setting.anchor else None,
        "source": setting.source.name,
        "source_sha256": facts.source_sha256,
        **({"start": _name(setting.start), "start_sha256": setting.start.sha256} if setting.start else {}),
        **{name: getattr(facts, name) for name in ("encoder", "solver", "norm", "transfer", "recipe", "size", "seed")},
        "reason": outcome.reason,
        "steps": outcome.steps,
        **summarize(scores, "held-out"),
        "cases": _names(parts.held_out),
        "validation": {**summarize_validation(scores), "cases": _names(parts.validation)},
        "training": {"cases": _names(parts.training)},
    }


def _known_by(setting: Setting) -> str:
    """Who may have seen a case before, in words."""
    others = (
        ("the start", setting.start),
        ("the localizer", setting.material.focusing),
        ("the teacher", setting.taught),
    )
    return " or ".join(("the source", *(name for name, there in others if there)))


def _names(cases: tuple[Case, ...]) -> list[str]:
    return [case.name for case in cases]
