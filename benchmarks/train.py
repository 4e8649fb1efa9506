"""How long a training step takes: as `fit` takes it, against the same network in stock PyTorch.

A step is all of it: drawing and varying a batch, forward, backward, optimizer. Ours is channels_last, bfloat16 where
the CPU has it, and the fused anchored Adam; stock is float32, NCHW and torch.optim.Adam as it comes. Every pair takes
one step of each, in random order, in one process.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/train.py --pairs 20 --out train.json
    python benchmarks/train.py --busy --out busy.json     what one other process that burns a core does to ours
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measure import Phantom, alternate, blocks, busy_by_policy, phantoms, ratio, say, write_record

from napari_tlseg.data.recipes import pick_recipe
from napari_tlseg.learn.anchor import Anchor, AnchoredAdam
from napari_tlseg.learn.device import pick_device, pick_precision
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.objectives import Segment, pick_loss
from napari_tlseg.learn.samples import mask_samples
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet

NEVER = 10**9


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how often."""

    pairs: int = 20
    phantom: Phantom = "fundus"
    size: int = 192
    """Side of the images, pixels."""
    batch: int = 8
    encoder: str = "unet"
    device: str = "cpu"
    strength: float = 1e-3
    busy: bool = False
    """Measure ours with and without a busy neighbour, at two waiting policies of OpenMP."""
    blocks: bool = False
    """What --busy runs in processes of their own."""
    seed: int = 0
    out: Path | None = None
    """A JSON file for the figures."""


def objective(settings: Settings) -> tuple[Segment, int, int]:
    """Phantoms to train on, the channels of their images, and their classes."""
    dataset = phantoms(settings.phantom, 8 if settings.phantom == "fundus" else 1, settings.seed)
    recipe, classes = pick_recipe(dataset)[0], len(dataset.classes)
    samples = [each for case in dataset for each in mask_samples(case, recipe, settings.size, classes)]
    loss = pick_loss("auto", classes)
    return Segment(samples, [], recipe.augment, settings.batch, classes, loss), len(samples[0].image), classes


def ours(settings: Settings, model: UNet, task: Segment) -> Callable[[], object]:
    """The next step of `fit`."""
    device = pick_device(settings.device)
    model = copy.deepcopy(model).to(device, memory_format=torch.channels_last)
    anchor = Anchor(model.encoder, settings.strength)
    optimizer = AnchoredAdam(model.parameters(), 1e-3, anchor=anchor, fused=True)
    schedule = Schedule(steps=NEVER, evaluate_every=NEVER)
    precision = pick_precision("auto", device)
    events = fit(model, task, optimizer, schedule, anchor=anchor, precision=precision, seed=settings.seed)
    return lambda: next(events)


def stock(settings: Settings, model: UNet, task: Segment) -> Callable[[], object]:
    """The same in a few lines of PyTorch, without options."""
    device, rng = pick_device(settings.device), np.random.default_rng(settings.seed)
    model = copy.deepcopy(model).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def step() -> float:
        images, labels = task.batch(rng)
        loss = task.loss(model, (images.to(device), labels.to(device)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def measure(settings: Settings) -> dict[str, Any]:
    """Times, and how many times as fast ours is; or times with and without the neighbour."""
    torch.set_flush_denormal(True)
    torch.manual_seed(settings.seed)
    task, channels, classes = objective(settings)
    model = UNet(make_encoder(settings.encoder, channels), classes)
    if settings.blocks:
        times = blocks(ours(settings, model, task), settings.pairs)
        return {"busy / quiet": ratio(times["busy"], times["quiet"]), "milliseconds": times}
    kinds = {"ours": ours(settings, model, task), "stock": stock(settings, model, task)}
    times = alternate(kinds, settings.pairs, settings.seed)
    return {"stock / ours": ratio(times["stock"], times["ours"]), "milliseconds": times}


def main(settings: Settings) -> None:
    """Measure, print, and write what was asked for."""
    if settings.busy:
        options = [option for option in sys.argv[1:] if option != "--busy"]
        results: dict[str, Any] = busy_by_policy(__file__, options)
        for policy, found in results.items():
            say(f"step, busy / quiet, waiting {policy}", found["busy / quiet"])
    else:
        results = measure(settings)
        for name in ("stock / ours", "busy / quiet"):
            if name in results and not settings.blocks:
                say(f"step, {name}", results[name])
    write_record(settings.out, settings, results)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
