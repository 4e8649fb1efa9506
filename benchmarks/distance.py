"""Is the best λ the larger, the nearer the source? On phantoms, where the distance is known (Sagie et al. suppose so).

    OMP_NUM_THREADS=1 python benchmarks/distance.py --ledger benchmarks/results/distance.jsonl

The target's phantoms are bright discs; a source at distance t in [0, 1] learned to segment phantoms of which every
number (size, outline, contrast, texture, what else is in the image) lies t of the way from the target's to another
organ's (`domains.py`). At t = 0 it is the same domain, of which other images were seen. For each seed and distance a
source is trained, then a U-Net on a few masks of the target from it at each λ, and one without a source. λ is chosen on
one half of the phantoms that were not trained on, and what it brings is read off the other half. Each training is a
line of the ledger: the study goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from domains import DISCS, ORGANS, write_domain
from ledger import Key, Ledger, spread, table
from numpy.typing import NDArray
from scipy import stats

from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.journey import finish
from napari_tlseg.studies.figures import positions
from napari_tlseg.studies.jobs import Trial, parse_strengths
from napari_tlseg.studies.recommend import name, recommend
from napari_tlseg.studies.trials import Result, finish_trial

SETTING = ("labels", "size", "steps", "batch", "rate", "pretrain_steps", "source_masks", "cases")
SHUFFLES = 9999


def main() -> None:
    options = parse()
    ledger, until = Ledger(options.ledger), time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            Seed(options, ledger, seed, Path(folder), until).run()
    report(ledger.where(**setting(options)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "distance.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--distances", type=float, nargs="+", default=[0, 0.25, 0.5, 0.75, 1])
    parser.add_argument("--lambdas", type=parse_strengths, default="inf,1,0.1,0.01,0.001,0.0001,0")
    parser.add_argument("--labels", type=int, default=8, help="masks of the target to train on")
    parser.add_argument("--cases", type=int, default=64, help="further phantoms of the target, in two halves")
    parser.add_argument("--source-masks", type=int, default=96)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--pretrain-steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further training after so long")
    return parser.parse_args()


def setting(options: argparse.Namespace) -> Key:
    return {key: getattr(options, key) for key in SETTING}


class Seed:
    """All trainings of one seed, which moves phantoms, weights and draws."""

    def __init__(self, options: argparse.Namespace, ledger: Ledger, seed: int, folder: Path, until: float) -> None:
        self.options, self.ledger, self.seed, self.until = options, ledger, seed, until
        self.folder = folder / str(seed)
        count = options.labels + options.cases
        self.target = write_domain(self.folder / "target", DISCS, count, (seed, 0), options.size)
        self.common: dict[str, Any] = {"seed": seed, "batch": options.batch, "size": options.size, "device": "cpu"}
        self.common |= {"learning_rate": options.rate, "recipe": "plain"}

    def run(self) -> None:
        self.once({"what": "finetune", "distance": None, "lambda": None}, partial(self.finetune, None, 0.0))
        for distance in self.options.distances:
            for strength in self.options.lambdas:
                key = {"what": "finetune", "distance": distance, "lambda": str(strength)}
                self.once(key, partial(self.finetune, distance, strength))

    def once(self, key: Key, work: Callable[[], Key]) -> None:
        key |= {"seed": self.seed, **setting(self.options)}
        if time.monotonic() < self.until or self.ledger.where(**key):
            row = self.ledger.once(key, work)
            print({k: v for k, v in row.items() if not isinstance(v, list)}, flush=True)

    def source(self, distance: float) -> Path:
        """Trained now if it was not in this process: the same seed gives the same one."""
        out = self.folder / f"{distance:g}.safetensors"
        if not out.exists():
            domain, began = DISCS.towards(ORGANS, distance), time.process_time()
            seed, masks, size = (self.seed, 1), self.options.source_masks, self.options.size
            data = write_domain(self.folder / f"{distance:g}", domain, masks, seed, size)
            steps = self.options.pretrain_steps
            done = finish(Pretrain(data=(data,), out=out, task="segment", steps=steps, **self.common))
            own, seconds = done.summary["held_out"]["dice"], round(time.process_time() - began, 1)
            self.once({"what": "source", "distance": distance}, lambda: {"own_dice": own, "seconds": seconds})
        return out

    def finetune(self, distance: float | None, strength: float) -> Key:
        names = [f"{number:03}" for number in range(self.options.labels + self.options.cases)]
        source = "none" if distance is None else self.source(distance)
        parts: dict[str, Any] = {"training": tuple(names[: self.options.labels])}
        parts |= {"test": tuple(names[self.options.labels :])}
        shared: dict[str, Any] = {**self.common, "steps": self.options.steps, "out": self.folder}
        began = time.process_time()
        job = Trial(data=self.target, source=source, strengths=(strength,), **parts, **shared)
        result = Result(finish_trial(job))
        (arm,) = result.arms
        dice = [round(result.dice(arm)[name], 3) for name in parts["test"]]
        halves = {"choice": dice[::2], "look": dice[1::2]}
        means = {f"{half}_mean": round(statistics.fmean(values), 4) for half, values in halves.items()}
        drift = result.drift(arm)
        facts = {"drift": drift and round(drift, 4), "seconds": round(time.process_time() - began, 1)}
        return {**facts, **means, **halves}


class Curve:
    """Dice against λ from one source: of one distance and seed."""

    def __init__(self, runs: Sequence[Key], scratch: Key) -> None:
        self.runs = {float(run["lambda"]): run for run in runs}
        self.scratch, self.places = scratch, positions(sorted(self.runs))

    @property
    def best(self) -> float:
        """Of equals the larger λ."""
        return max(self.runs, key=lambda λ: (self.runs[λ]["choice_mean"], λ))

    @property
    def cautious(self) -> float:
        """The largest within one standard error of the best."""
        found = recommend({λ: {str(n): d for n, d in enumerate(run["choice"])} for λ, run in self.runs.items()})
        assert found.strength is not None
        return found.strength

    @property
    def centre(self) -> float:
        """Mean place on the axis of log λ, weighted by what each λ has more than the worst."""
        lowest = min(run["choice_mean"] for run in self.runs.values())
        weights = {λ: run["choice_mean"] - lowest for λ, run in self.runs.items()}
        return sum(weights[λ] * self.places[λ] for λ in weights) / (sum(weights.values()) or math.nan)

    def gain(self, strength: float) -> float:
        """Over no source, on the other half."""
        return float(self.runs[strength]["look_mean"] - self.scratch["look_mean"])


def report(rows: Sequence[Key]) -> None:
    """Dice and gain at each λ and distance, the best λ, and whether it falls with the distance."""
    curves = _curves(rows)
    distances = sorted({distance for distance, _ in curves})
    if not curves:
        print("nothing to compare yet: no source has been tried at two λ, beside a training without a source")
        return
    strengths = sorted({λ for curve in curves.values() for λ in curve.runs}, reverse=True)
    scratch = {seed: curve.scratch["look_mean"] for (_, seed), curve in curves.items()}
    print(f"\nDice without a source: {spread(scratch.values())}, seeds {sorted(scratch)}\n")
    sources = [row for row in rows if row["what"] == "source"]
    own = {distance: [row["own_dice"] for row in sources if row["distance"] == distance] for distance in distances}
    print(table([["distance", "source, own Dice", *map(name, strengths)], *_dice_rows(curves, own, strengths)]))
    header = ["distance", "best λ by seed", "one-SE λ", "weighted log₁₀ λ", "gain, best λ", "gain, λ = 0", "gain, ∞"]
    print("\n" + table([header, *(_choice_row(t, [c for (d, _), c in curves.items() if d == t]) for t in distances)]))
    for label, measure in MEASURES.items():
        rho, p = trend({key: measure(curve) for key, curve in curves.items()})
        print(f"Spearman's ρ of distance and {label}: {rho:+.2f}, p = {p:.4f} ({SHUFFLES} shuffles within seeds)")


MEASURES: dict[str, Callable[[Curve], float]] = {
    "best λ": lambda curve: curve.places[curve.best],
    "one-SE λ": lambda curve: curve.places[curve.cautious],
    "weighted log λ": lambda curve: curve.centre,
    "gain of the best λ over no source": lambda curve: curve.gain(curve.best),
    "Dice at ∞ less that at 0": lambda curve: curve.gain(math.inf) - curve.gain(0.0),
}


def trend(values: dict[tuple[float, int], float]) -> tuple[float, float]:
    """Spearman's ρ of distance and value over distances and seeds; two-sided p by shuffling the distances of a seed."""
    keys, rng = list(values), np.random.default_rng(0)
    seeds, distances = np.array([seed for _, seed in keys]), np.array([distance for distance, _ in keys])
    alike = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    ranks = stats.rankdata(list(values.values()))

    def rho(where: NDArray[np.float64]) -> float:
        return float(np.corrcoef(stats.rankdata(where), ranks)[0, 1])

    def shuffled() -> NDArray[np.float64]:
        where = distances.copy()
        for own in alike:
            where[own] = rng.permutation(where[own])
        return where

    found = rho(distances)
    beyond = sum(abs(rho(shuffled())) >= abs(found) - 1e-12 for _ in range(SHUFFLES))
    return found, (1 + beyond) / (1 + SHUFFLES)


def _curves(rows: Sequence[Key]) -> dict[tuple[float, int], Curve]:
    """By distance and seed, those with all λ."""
    scratch = {row["seed"]: row for row in rows if row["what"] == "finetune" and row["distance"] is None}
    groups: dict[tuple[float, int], list[Key]] = {}
    for row in rows:
        if row["what"] == "finetune" and row["distance"] is not None and row["seed"] in scratch:
            groups.setdefault((row["distance"], row["seed"]), []).append(row)
    whole = max(map(len, groups.values()), default=0)
    return {key: Curve(runs, scratch[key[1]]) for key, runs in groups.items() if len(runs) == whole > 1}


def _dice_rows(
    curves: dict[tuple[float, int], Curve], own: dict[float, list[float]], strengths: Sequence[float]
) -> Iterable[list[str]]:
    for distance in sorted({distance for distance, _ in curves}):
        alike = [curve for (d, _), curve in curves.items() if d == distance]
        found = ([curve.runs[λ]["look_mean"] for curve in alike] for λ in strengths)
        yield [f"{distance:g}", spread(own.get(distance, [])), *map(spread, found)]


def _choice_row(distance: float, curves: Sequence[Curve]) -> list[str]:
    gains = ([curve.gain(λ) for curve in curves] for λ in (0.0, math.inf))
    return [
        f"{distance:g}",
        " / ".join(name(curve.best) for curve in curves),
        " / ".join(name(curve.cautious) for curve in curves),
        spread([curve.centre for curve in curves], "{:+.1f}"),
        spread([curve.gain(curve.best) for curve in curves], "{:+.3f}"),
        *(spread(each, "{:+.3f}") for each in gains),
    ]


if __name__ == "__main__":
    main()
