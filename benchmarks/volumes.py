"""Volumes: 3-D networks from scratch, inflated from planes, and of Med3D, against a 2-D network on the same few masks.

    python benchmarks/volumes.py --target VOLUMES --weights MOBILENET --slices DATASET DATASET

Each volume of the target is tested on once per number of masks, by networks that learned from the ones after it in a
circle; nothing is chosen by it, the weights are the last ones. Sources: a file of ImageNet weights of mobilenet_v2, a
HydraNet of planes on the sets of slices that began with them, and Med3D, a HydraNet of volumes: on the sets named by
`--volumes`, or else on synthetic CTs of two spacings. Each finished run is a line of the ledger: the study goes on
where it was.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from ledger import Key, Ledger, table

from napari_tlseg import read_dataset
from napari_tlseg.data.phantoms.folders import write_chest
from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.journey import finish
from napari_tlseg.learn.metrics import Score, summarize
from napari_tlseg.studies.jobs import Trial

FLAT, DEEP, MED3D = "mobilenet_v2", "mobilenet_v2-3d", "resnet10-med3d"


@dataclass(frozen=True)
class Arm:
    """What is compared: an encoder, and where it starts."""

    encoder: str
    source: str
    """scratch, imagenet, slices or volumes."""

    @property
    def strengths(self) -> tuple[str, ...]:
        return ("scratch",) if self.source == "scratch" else ("0", "0.001", "inf")


ARMS = (
    Arm(FLAT, "scratch"),
    Arm(FLAT, "imagenet"),
    Arm(DEEP, "scratch"),
    Arm(DEEP, "imagenet"),
    Arm(DEEP, "slices"),
    Arm(MED3D, "scratch"),
    Arm(MED3D, "volumes"),
)


def main() -> None:
    options = parse()
    ledger, until = Ledger(options.ledger), time.monotonic() + 60 * options.minutes
    cases = range(len(read_dataset(options.target).labelled))
    arms = [(arm, strength) for arm in ARMS if arm.encoder in options.encoders for strength in arm.strengths]
    for seed, labels, case, (arm, strength) in product(options.seeds, options.labels, cases, arms):
        if time.monotonic() < until:
            run(options, ledger, arm, strength, labels, case, seed)
    report(ledger)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True, help="dataset folder of volumes with masks")
    parser.add_argument("--weights", type=Path, required=True, help=f"file of ImageNet weights of {FLAT}")
    parser.add_argument("--slices", type=Path, nargs="+", required=True, help="dataset folders of planes with masks")
    parser.add_argument("--volumes", type=Path, nargs="+", help="dataset folders of volumes with masks")
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "volumes.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--encoders", nargs="+", default=[FLAT, DEEP, MED3D], choices=[FLAT, DEEP, MED3D])
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pretrain-steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further run after so long")
    return parser.parse_args()


def run(
    options: argparse.Namespace, ledger: Ledger, arm: Arm, strength: str, labels: int, case: int, seed: int
) -> None:
    """One training, and its Dice on the volume that is tested."""
    names = [each.name for each in read_dataset(options.target).labelled]
    key: Key = {"encoder": arm.encoder, "source": arm.source, "lambda": strength, "labels": labels, "seed": seed}
    key |= {"test": names[case], "size": options.size, "steps": options.steps, "rate": options.learning_rate}
    key |= {"pretrain_steps": options.pretrain_steps} if arm.source in ("slices", "volumes") else {}
    others = tuple((names[case + 1 :] + names[:case])[:labels])

    def work() -> Key:
        job = Trial(
            data=options.target,
            out=options.ledger.parent,
            encoder=arm.encoder,
            source=find_source(options, ledger, arm.source, seed),
            strengths=(0.0 if strength == "scratch" else float(strength),),
            training=others,
            test=(names[case],),
            size=options.size,
            steps=options.steps,
            learning_rate=options.learning_rate,
            seed=seed,
        )
        summary = finish(job).summary
        (stage,) = summary["stages"]
        scores = summarize([Score(**score) for score in stage["scores"]], "held-out")
        kept = {name: scores[name] for name in ("dice_mean", "hd95_mean")}
        return {**kept, "drift": stage["drift"], "seconds": round(summary["seconds"], 1)}

    print(ledger.once(key, work), flush=True)


def find_source(options: argparse.Namespace, ledger: Ledger, source: str, seed: int) -> Path | str:
    """Its file, made where it is not there yet; what it cost is a line too."""
    if source in ("scratch", "imagenet"):
        return "none" if source == "scratch" else options.weights
    path = options.ledger.parent / "sources" / f"{source}-{options.size}-{options.pretrain_steps}-{seed}.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        key = {"pretrain": source, "size": options.size, "steps": options.pretrain_steps, "seed": seed}
        if not path.exists() or not ledger.where(**key):
            print(ledger.once(key, partial(pretrain, options, source, path, seed, Path(folder))), flush=True)
    return path


def pretrain(options: argparse.Namespace, source: str, path: Path, seed: int, folder: Path) -> Key:
    began, planes = time.monotonic(), source == "slices"
    data = options.slices if planes else options.volumes
    if data is None:
        data = [folder / "thick", folder / "thin"]
        for number, (place, spacing) in enumerate(zip(data, (5.0, 2.5), strict=True)):
            write_chest(place, 8, number, shape=(round(240 / spacing), 128, 128), spacing=(spacing, 3.0, 3.0))
    job = Pretrain(
        data=tuple(data),
        out=path,
        task="segment",
        encoder=FLAT if planes else MED3D,
        init=options.weights if planes else "none",
        size=options.size,
        steps=options.pretrain_steps,
        seed=seed,
        overwrite=True,
    )
    return {"validation": dict(finish(job).summary["validation"]), "seconds": round(time.monotonic() - began)}


def report(ledger: Ledger) -> None:
    """The table of docs/results.md, from what the ledger holds."""
    head = ["masks", "encoder", "source", "λ", "Dice by seed", "mean ± SD", "HD95, mm", "drift", "s"]
    rows: list[Iterable[object]] = [head]
    runs = [row for row in ledger.where() if "test" in row]
    for kind in dict.fromkeys((r["labels"], r["encoder"], r["source"], r["lambda"]) for r in runs):
        alike = [r for r in runs if (r["labels"], r["encoder"], r["source"], r["lambda"]) == kind]
        seeds = sorted({r["seed"] for r in alike})
        dice = [statistics.mean(r["dice_mean"] for r in alike if r["seed"] == seed) for seed in seeds]
        spread = f" ± {statistics.stdev(dice):.3f}" if len(dice) > 1 else ""
        drifts, distances = ([r[name] for r in alike if r[name] is not None] for name in ("drift", "hd95_mean"))
        rows.append(
            [
                *kind,
                " / ".join(f"{value:.3f}" for value in dice),
                f"{statistics.mean(dice):.3f}{spread}",
                f"{statistics.mean(distances):.1f}" if distances else "–",
                f"{statistics.mean(drifts):.3f}" if drifts else "–",
                f"{statistics.mean(r['seconds'] for r in alike):.0f}",
            ]
        )
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
