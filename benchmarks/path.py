"""What a path of λ costs, and how near its models are to those of trainings of their own.

    python benchmarks/path.py --source clicks.safetensors --target DATASET --ledger benchmarks/results/path.jsonl

For each seed a path is trained, then one cold training of full length at each of its λ, on the same cases. Times are of
the trainings alone, of both in the same process one after the other: seconds, and those of the processor, which other
programs disturb less. Dice is the mean over all cases with a mask that are neither trained on nor held out, on their
native grid. Each finished training is a line of the ledger: the study goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger import Ledger, table

from napari_tlseg import read_dataset
from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.run import read_summary
from napari_tlseg.data.split import read_split
from napari_tlseg.engine.predicting import load_run, load_segmenter, segment
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Control, Evaluated, Stepped
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.studies.jobs import LambdaPath, parse_strengths
from napari_tlseg.studies.path import read_path

SETTING = ("labels", "size", "steps", "batch")


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
    parser.add_argument(
        "--lambdas", default="auto", help="by name, as inf,1,0.1,0, in place of --count spaced by drift"
    )
    options = parser.parse_args()
    ledger = Ledger(options.ledger)
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            compare(options, ledger, seed, Path(folder))
    report(ledger)


def compare(options: argparse.Namespace, ledger: Ledger, seed: int, folder: Path) -> None:
    setting = {"seed": seed, **{key: getattr(options, key) for key in SETTING}}
    shared: dict[str, Any] = {"data": options.target, "source": options.source, "overwrite": True, **setting}
    setting |= {"source": options.source.name, "target": options.target.name}
    path = LambdaPath(out=folder / "path", count=options.count, strengths=parse_strengths(options.lambdas), **shared)
    key = {"what": "path", "count": options.count, "lambdas": options.lambdas, "warm": path.warm, **setting}
    warm = ledger.once(key, lambda: run(path))
    print(warm, flush=True)
    for stage in warm["stages"]:
        cold = Finetune(out=folder / "cold", strength=float(stage["lambda"]), **shared)
        key = {"what": "cold", "lambda": stage["lambda"], **setting}
        print(ledger.once(key, lambda job=cold: run(job)), flush=True)


def run(job: LambdaPath | Finetune) -> dict[str, Any]:
    """Seconds of the steps and the looks during training, and drift and Dice of each λ."""
    seconds = processor = 0.0
    began = time.perf_counter(), time.process_time()
    for event in job.run():
        if isinstance(event, Stepped | Evaluated):
            seconds += time.perf_counter() - began[0]
            processor += time.process_time() - began[1]
        began = time.perf_counter(), time.process_time()
    times = {"seconds": seconds, "processor": processor}
    cases, segmenter = unused(job), load_segmenter(job, load_run(job.out))
    if isinstance(job, Finetune):
        return {**times, "cases": len(cases), "drift": event.summary["drift"], "dice": dice(segmenter, cases)}
    stages, between = read_path(job.out)
    for stage in stages:
        segmenter.model.load_state_dict(between.at(float(stage["strength"])))
        stage["dice"] = dice(segmenter, cases)
    kept = [{"lambda": str(float(s["strength"])), "drift": s["drift"], "dice": s["dice"]} for s in stages]
    return {**times, "cases": len(cases), "stages": kept}


def unused(job: LambdaPath | Finetune) -> list[Case]:
    """With a mask, and neither trained on nor held out; to compare ways to train, not to tell how good a model is."""
    taken = set(read_summary(job.out)["training"]["cases"])
    taken |= {name for name, part in read_split(job.data).items() if part == "held-out"}
    return [case for case in read_dataset(job.data).labelled if case.name not in taken]


def dice(segmenter: Segmenter, cases: Sequence[Case]) -> float:
    """Mean of 2 |A ∩ B| / (|A| + |B|) of the foreground."""
    found = []
    for case in cases:
        mask, truth = segment(segmenter, case, Control())[0] > 0, read_mask(case, 256) > 0
        found.append(2 * int((mask & truth).sum()) / max(1, int(mask.sum() + truth.sum())))
    return statistics.fmean(found)


def report(ledger: Ledger) -> None:
    """Ratio of times per seed, and the differences in Dice."""
    ratios, differences, rows = [], [], [["seed", "λ", "drift, warm", "drift, cold", "Dice, warm", "Dice, cold"]]
    for path in ledger.where(what="path"):
        alike = {key: path.get(key) for key in ("seed", *SETTING, "source", "target")}
        cold = {row["lambda"]: row for row in ledger.where(what="cold", **alike)}
        if cold:
            unit = "processor" if "processor" in path else "seconds"
            ratios.append(path[unit] / statistics.median(row[unit] for row in cold.values()))
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
