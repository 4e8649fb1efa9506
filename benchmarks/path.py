"""What a path of λ costs, and how near its models are to those of trainings of their own.

    python benchmarks/path.py --source clicks.safetensors --target DATASET --ledger benchmarks/results/path.jsonl

For each seed a path is trained, then one cold training of full length at each of its λ, on the same cases. Times are of
the trainings alone, of both in the same process one after the other; Dice is of the validation cases on their native
grid. Each finished training is a line of the ledger: the study goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ledger import Ledger, table

from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Evaluated, Reached, Stepped
from napari_tlseg.studies.jobs import LambdaPath


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--target", type=Path, required=True, help="dataset folder with masks")
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "path.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, default=40)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--count", type=int, default=9)
    options = parser.parse_args()
    ledger = Ledger(options.ledger)
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            compare(options, ledger, seed, Path(folder))
    report(ledger)


def compare(options: argparse.Namespace, ledger: Ledger, seed: int, folder: Path) -> None:
    setting = {"seed": seed, **{key: getattr(options, key) for key in ("labels", "size", "steps", "batch")}}
    shared: dict[str, Any] = {"data": options.target, "source": options.source, "overwrite": True, **setting}
    path = LambdaPath(out=folder / "path", count=options.count, **shared)
    warm = ledger.once({"what": "path", "count": options.count, **setting}, lambda: run(path))
    print(warm, flush=True)
    for stage in warm["stages"]:
        cold = Finetune(out=folder / "cold", strength=float(stage["lambda"]), **shared)
        print(
            ledger.once({"what": "cold", "lambda": stage["lambda"], **setting}, lambda job=cold: run(job)), flush=True
        )


def run(job: LambdaPath | Finetune) -> dict[str, Any]:
    """Seconds of the steps and the looks during training, and validation Dice of each λ."""
    began, seconds, stages = time.perf_counter(), 0.0, []
    for event in job.run():
        if isinstance(event, Stepped | Evaluated):
            seconds += time.perf_counter() - began
        if isinstance(event, Reached):
            row = {"lambda": str(event.strength), "drift": event.drift, "dice": event.scores["dice_mean"]}
            stages.append(row)
        began = time.perf_counter()
    summary: Any = event.summary  # type: ignore[union-attr]
    own = {"dice": summary["validation"]["dice_mean"], "drift": summary["drift"]}
    return {"seconds": seconds, **({"stages": stages} if stages else own)}


def report(ledger: Ledger) -> None:
    """Ratio of times per seed, and the differences in Dice."""
    ratios, differences, rows = [], [], [["seed", "λ", "drift, warm", "drift, cold", "Dice, warm", "Dice, cold"]]
    for path in ledger.where(what="path"):
        alike = {key: path[key] for key in ("seed", "labels", "size", "steps", "batch")}
        cold = {row["lambda"]: row for row in ledger.where(what="cold", **alike)}
        if cold:
            ratios.append(path["seconds"] / statistics.median(row["seconds"] for row in cold.values()))
        for stage in path["stages"]:
            if (other := cold.get(stage["lambda"])) is not None:
                differences.append(stage["dice"] - other["dice"])
                numbers = stage["drift"], other["drift"], stage["dice"], other["dice"]
                rows.append([str(path["seed"]), stage["lambda"], *(f"{number:.3f}" for number in numbers)])
    print(table(rows))
    print(f"time of a path / median of its cold trainings, by seed: {[round(ratio, 2) for ratio in ratios]}")
    if differences:
        within = sum(abs(difference) <= 0.01 for difference in differences)
        print(
            f"Dice, warm − cold: mean {statistics.mean(differences):+.4f}; within 0.01: {within} of {len(differences)}"
        )


if __name__ == "__main__":
    main()
