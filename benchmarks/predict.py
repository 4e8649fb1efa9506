"""How long a prediction takes: as `Segmenter` makes it, against the same network in stock PyTorch.

Whole cases: recipe, network, and the way back to the native grid, from the pixels to the labels. Then the network by
itself, on a batch. Ours is channels_last and bfloat16 where the CPU has it; stock is float32 and NCHW. Every pair
predicts the same case with each, in random order, in one process. The network is trained briefly, so that both can be
compared with the true masks: the Dice coefficients must agree within 0.002.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/predict.py --pairs 20 --out predict.json
    python benchmarks/predict.py --busy --out busy.json     what one other process that burns a core does to ours
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from measure import Phantom, alternate, blocks, busy_by_policy, interval, phantoms, ratio, say, write_record
from numpy.typing import NDArray

from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case, Dataset, Labels
from napari_tlseg.data.formats import read_image
from napari_tlseg.data.recipes import Recipe, pick_recipe
from napari_tlseg.learn.device import pick_device, pick_precision
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.metrics import score_case
from napari_tlseg.learn.objectives import Segment, pick_loss
from napari_tlseg.learn.predict import BATCH, Segmenter
from napari_tlseg.learn.samples import mask_samples
from napari_tlseg.nets.checkpoint import Provenance
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet, probabilities

WITHIN = 0.002
"""How far the two mean Dice coefficients may lie apart."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how often."""

    pairs: int = 20
    phantom: Phantom = "fundus"
    size: int = 192
    """Side of the square that the network sees, pixels."""
    encoder: str = "unet"
    device: str = "cpu"
    steps: int = 150
    """Training steps before."""
    busy: bool = False
    """Measure ours with and without a busy neighbour, at two waiting policies of OpenMP."""
    blocks: bool = False
    """What --busy runs in processes of their own."""
    seed: int = 0
    out: Path | None = None
    """A JSON file for the figures."""


class Stock(Segmenter):
    """The same network, without options."""

    def _forward(self, squares: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            return probabilities(self.model(torch.from_numpy(np.stack(squares)).to(device))).cpu().numpy()


def train(settings: Settings, dataset: Dataset, recipe: Recipe) -> Segmenter:
    """A network that knows its phantoms a little."""
    device, classes = pick_device(settings.device), len(dataset.classes)
    precision = pick_precision("auto", device)
    samples = [each for case in dataset for each in mask_samples(case, recipe, settings.size, classes)]
    task = Segment(samples, [], recipe.augment, 8, classes, pick_loss("auto", classes))
    model = UNet(make_encoder(settings.encoder, len(samples[0].image)), classes)
    model.expect(task.shares)
    model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    for _ in fit(model, task, optimizer, Schedule(steps=settings.steps), precision=precision, seed=settings.seed):
        pass
    provenance = Provenance(
        task="segment",
        encoder=settings.encoder,
        in_channels=len(samples[0].image),
        classes=dataset.classes,
        recipe=recipe.name,
        size=settings.size,
    )
    return Segmenter(model, provenance, precision=precision)


def segmenters(settings: Settings, dataset: Dataset, recipe: Recipe) -> dict[str, Segmenter]:
    """Ours and stock, with the same weights."""
    ours = train(settings, dataset, recipe)
    plain = copy.deepcopy(ours.model).to(memory_format=torch.contiguous_format)
    return {"ours": ours, "stock": Stock(plain, ours.provenance)}


def whole_cases(segmenter: Segmenter, cases: Sequence[Case]) -> Callable[[], list[Labels]]:
    """Predicts one case after the other, over and over, from pixels in memory."""
    images = itertools.cycle([read_image(case.image) for case in cases])
    return lambda: list(segmenter.planes(next(images)))


def network_alone(settings: Settings, segmenter: Segmenter, recipe: Recipe, case: Case) -> Callable[[], object]:
    """One batch."""
    (square,) = recipe.squares(read_image(case.image), [0], settings.size)
    return lambda: segmenter._forward([square] * BATCH)


def mean_dice(predictions: Sequence[Labels], truths: Sequence[Labels], dataset: Dataset) -> float:
    """Over cases and classes, on the native grid."""
    facts: dict[str, Any] = {"unit": "px", "classes": dataset.classes, "part": "all", "distances": False}
    scores = [
        score.dice
        for case, predicted, truth in zip(dataset, predictions, truths, strict=True)
        for score in score_case(truth, predicted, spacing=(1.0, 1.0, 1.0), case=case.name, **facts)
    ]
    return float(np.mean([dice for dice in scores if dice is not None]))


def agreement(made: dict[str, Segmenter], dataset: Dataset) -> dict[str, Any]:
    """Dice of both against the truth, and of one against the other."""
    truths = [read_mask(case, len(dataset.classes)) for case in dataset]
    found = {
        kind: [segmenter.finish(list(segmenter.planes(read_image(case.image))), case) for case in dataset]
        for kind, segmenter in made.items()
    }
    dice = {kind: mean_dice(predictions, truths, dataset) for kind, predictions in found.items()}
    apart = abs(dice["ours"] - dice["stock"])
    both = mean_dice(found["ours"], found["stock"], dataset)
    return {"dice": dice, "difference": apart, "within": apart <= WITHIN, "ours with stock": both}


def measure(settings: Settings) -> dict[str, Any]:
    """Times, how many times as fast ours is, and whether it says the same; or times with and without the neighbour."""
    torch.set_flush_denormal(True)
    torch.manual_seed(settings.seed)
    dataset = phantoms(settings.phantom, 8 if settings.phantom == "fundus" else 2, settings.seed)
    recipe = pick_recipe(dataset)[0]
    made = segmenters(settings, dataset, recipe)
    if settings.blocks:
        times = blocks(whole_cases(made["ours"], dataset.cases), settings.pairs)
        return {"busy / quiet": ratio(times["busy"], times["quiet"]), "milliseconds": times}
    results: dict[str, Any] = {"agreement": agreement(made, dataset)}
    makers: dict[str, Callable[[Segmenter], Callable[[], object]]] = {
        "case": lambda segmenter: whole_cases(segmenter, dataset.cases),
        "network": lambda segmenter: network_alone(settings, segmenter, recipe, dataset.cases[0]),
    }
    for name, make in makers.items():
        times = alternate({kind: make(each) for kind, each in made.items()}, settings.pairs, settings.seed)
        results[name] = {
            "stock / ours": ratio(times["stock"], times["ours"]),
            "ours, ms": interval(times["ours"]),
            "milliseconds": times,
        }
    return results


def main(settings: Settings) -> None:
    """Measure, print, and write what was asked for."""
    if settings.busy:
        options = [option for option in sys.argv[1:] if option != "--busy"]
        results: dict[str, Any] = busy_by_policy(__file__, options)
        for policy, found in results.items():
            say(f"case, busy / quiet, waiting {policy}", found["busy / quiet"])
    else:
        results = measure(settings)
        if not settings.blocks:
            say("case, stock / ours", results["case"]["stock / ours"])
            say("network alone, stock / ours", results["network"]["stock / ours"])
            same = results["agreement"]
            print(f"Dice {same['dice']['ours']:.4f} (ours), {same['dice']['stock']:.4f} (stock)")
    write_record(settings.out, replace(settings), results)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
