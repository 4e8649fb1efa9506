"""What the anchor costs: training steps of a U-Net with it, without it, and with the penalty written into the loss.

One network and one batch; every pair takes one training step (forward, backward, optimizer) of each kind, in random
order, so that a busy machine is busy for all of them. The optimizers' own steps are then repeated by themselves: their
difference, as a share of a training step, says what the noise of whole steps hides.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/anchor.py --pairs 30 --size 384 --batch 1 --out anchor.json
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from measure import Interval, interval, machine
from torch import Tensor, nn
from tqdm import trange

from napari_tlseg.learn.anchor import Anchor, AnchoredAdam
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet

OURS, ADAM, LOSS = "anchored", "adam", "in the loss"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how often."""

    pairs: int = 30
    size: int = 384
    """Side of the images, pixels."""
    batch: int = 1
    encoder: str = "densenet121"
    strength: float = 1e-3
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast, with channels_last."""
    device: str = "cpu"
    repeats: int = 10
    """Of each optimizer's step by itself, per pair."""
    seed: int = 0
    out: Path | None = None
    """A JSON file for the figures."""


@dataclass(frozen=True)
class Times:
    """Milliseconds of one kind of training."""

    training: list[float] = field(default_factory=list)
    """A training step; one per pair."""
    optimizer: list[float] = field(default_factory=list)
    """The optimizer's step in it."""
    alone: list[float] = field(default_factory=list)
    """The optimizer's step by itself: the median of a pair's repeats."""


class Bench:
    """One network, and a way to train it per kind."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, torch.device(settings.device)
        low = settings.precision == "bfloat16"
        layout = torch.channels_last if low else torch.contiguous_format
        self.model = UNet(make_encoder(settings.encoder, 1), 2).to(self.device, memory_format=layout)
        shape = (settings.batch, 1, settings.size, settings.size)
        self.image = torch.rand(shape, device=self.device).contiguous(memory_format=layout)
        self.mask = (torch.rand(shape, device=self.device) > 0.5).float()
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=low)
        self.anchor = Anchor(self.model.encoder, settings.strength)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def loss(self, kind: str) -> Tensor:
        with self.autocast:
            logits = self.model(self.image)
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), self.mask)
        if kind == LOSS:
            pairs = zip(self.anchor.parameters, self.anchor.reference, strict=True)
            loss = loss + self.settings.strength * sum(((p - r) ** 2).sum() for p, r in pairs)
        return loss

    def train(self, kind: str) -> tuple[float, float]:
        """Milliseconds of a training step, and of the optimizer's step in it."""
        start = self.now()
        self.optimizers[kind].zero_grad()
        self.loss(kind).backward()
        between = self.now()
        self.optimizers[kind].step()
        end = self.now()
        return end - start, end - between

    def step(self, kind: str) -> float:
        """Milliseconds of the optimizer's step on the gradients that are there."""
        start = self.now()
        self.optimizers[kind].step()
        return self.now() - start

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * time.perf_counter()

    def faster_adam(self) -> str:
        """The faster of torch.optim.Adam's two quick ways."""
        for way in ("fused", "foreach"):
            self.optimizers[way] = torch.optim.Adam(self.model.parameters(), 1e-4, **{way: True})
            self.train(way)
        medians = {way: np.median([self.step(way) for _ in range(10)]) for way in self.optimizers}
        self.optimizers.clear()
        return min(medians, key=medians.__getitem__)


def measure(settings: Settings) -> tuple[str, dict[str, Times]]:
    """Which Adam was the faster, and the times of each kind."""
    bench, rng = Bench(settings), random.Random(settings.seed)
    way = bench.faster_adam()
    parameters = list(bench.model.parameters())
    bench.optimizers = {
        OURS: AnchoredAdam(parameters, 1e-4, anchor=bench.anchor, **{way: True}),
        ADAM: torch.optim.Adam(parameters, 1e-4, **{way: True}),
        LOSS: torch.optim.Adam(parameters, 1e-4, **{way: True}),
    }
    times = {kind: Times() for kind in bench.optimizers}
    for kind in times:
        bench.train(kind)
    for _ in trange(settings.pairs, desc="pairs", leave=False):
        for kind in rng.sample(list(times), len(times)):
            training, optimizer = bench.train(kind)
            times[kind].training.append(training)
            times[kind].optimizer.append(optimizer)
        alone = {kind: [] for kind in times}
        for _ in range(settings.repeats):
            for kind in rng.sample(list(times), len(times)):
                alone[kind].append(bench.step(kind))
        for kind, repeats in alone.items():
            times[kind].alone.append(float(np.median(repeats)))
    return way, times


def compare(times: dict[str, Times]) -> dict[str, Interval]:
    """The anchored training against the others: ratios of steps, and the optimizer's extra time in % of Adam's step."""
    ours, adam, loss = ({name: np.array(v) for name, v in asdict(times[kind]).items()} for kind in (OURS, ADAM, LOSS))
    percent = 100 / np.median(adam["training"])
    return {
        "step / step of adam": interval(ours["training"] / adam["training"]),
        "step / step with the penalty in the loss": interval(ours["training"] / loss["training"]),
        "extra in a step, %": interval(percent * (ours["optimizer"] - adam["optimizer"])),
        "extra by itself, %": interval(percent * (ours["alone"] - adam["alone"])),
    }


def report(way: str, times: dict[str, Times], anchored: dict[str, Interval]) -> str:
    """A small table for the terminal."""
    lines = [f"{'median, ms':40}{'training step':>15}{'optimizer':>12}{'by itself':>12}"]
    for kind, one in times.items():
        numbers = [float(np.median(values)) for values in (one.training, one.optimizer, one.alone)]
        lines.append(f"{kind:40}{numbers[0]:15.1f}{numbers[1]:12.2f}{numbers[2]:12.2f}")
    lines.append(f"\nanchored, all with Adam's {way}: median [95% interval]")
    lines += [f"{name:40}{middle:15.3f}  [{low:.3f}, {high:.3f}]" for name, (middle, low, high) in anchored.items()]
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Measure, print, and write what was asked for."""
    torch.set_flush_denormal(True)
    way, times = measure(settings)
    anchored = compare(times)
    print(report(way, times, anchored))
    if settings.out is not None:
        kinds = {kind: asdict(one) for kind, one in times.items()}
        record = {
            "settings": asdict(settings),
            "machine": machine(),
            "adam": way,
            "anchored": anchored,
            "milliseconds": kinds,
        }
        settings.out.write_text(json.dumps(record, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
