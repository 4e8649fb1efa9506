"""What a path of λ costs, and how near its models are to those of trainings of their own.

    python benchmarks/path.py --source clicks.safetensors --target DATASET --ledger benchmarks/results/path.jsonl

For each seed a path is trained, then one cold training of full length at each of its λ, on the same cases. Times are of
the trainings alone, of both in the same process one after the other: seconds, and those of the processor, which other
programs disturb less. Dice is the mean over all cases with a mask that are neither trained on nor held out, on their
native grid. Of each λ between two others it is also asked how near the preview from these two, which the slider would
show there, comes to its masks. Each finished training is a line of the ledger: the study goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ledger import Key, Ledger, spread, table
from masks import dice, drawn, find

from napari_tlseg import read_dataset
from napari_tlseg.data.case import Case
from napari_tlseg.data.run import read_summary
from napari_tlseg.data.split import read_split
from napari_tlseg.engine.predicting import load_run, load_segmenter
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.events import Evaluated, Stepped
from napari_tlseg.learn.predict import Segmenter
from napari_tlseg.studies.jobs import LambdaPath, parse_strengths
from napari_tlseg.studies.path import read_path
from napari_tlseg.studies.weights import Between

SETTING = ("labels", "size", "steps", "batch")
NEAR = 0.01
"""Of Dice: what is hoped for between a path and cold trainings."""


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
    setting = {key: getattr(options, key) for key in SETTING}
    report(ledger.where(what="path", lambdas=options.lambdas, source=options.source.name, **setting), ledger)


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
        found = dice(find(segmenter, cases), drawn(cases))
        return {**times, "cases": len(cases), "drift": event.summary["drift"], "dice": found}
    return {**times, "cases": len(cases), **look(job, segmenter, cases)}


def look(job: LambdaPath, segmenter: Segmenter, cases: Sequence[Case]) -> dict[str, Any]:
    """Of each λ its Dice and, between two others, how near the preview from these two would have come to its masks.

    Beside it the baseline: the better of its two neighbours as they are. `ends`: Dice between the masks at both ends.
    """
    stages, between = read_path(job.out)
    truth = drawn(cases)
    found = {λ: find(segmenter, cases, weights) for λ, weights in between.weights.items()}
    near: dict[float, dict[str, float]] = {λ: {} for λ in found}
    for below, λ, above in zip(ordered := sorted(found), ordered[1:], ordered[2:], strict=False):
        others = Between({each: between.weights[each] for each in (below, above)}, between.curve)
        preview = dice(find(segmenter, cases, others.at(λ)), found[λ])
        near[λ] = {"preview": preview, "nearest": max(dice(found[each], found[λ]) for each in (below, above))}
    kept = [
        {"lambda": str(λ), "drift": stage["drift"], "dice": dice(found[λ], truth), **near[λ]}
        for stage in stages
        for λ in [float(stage["strength"])]
    ]
    return {"stages": kept, "ends": dice(found[ordered[0]], found[ordered[-1]])}


def unused(job: LambdaPath | Finetune) -> list[Case]:
    """With a mask, and neither trained on nor held out; to compare ways to train, not to tell how good a model is."""
    taken = set(read_summary(job.out)["training"]["cases"])
    taken |= {name for name, part in read_split(job.data).items() if part == "held-out"}
    return [case for case in read_dataset(job.data).labelled if case.name not in taken]


def report(paths: Sequence[Key], ledger: Ledger) -> None:
    """By λ, mean and spread over seeds; then the times, and how near the previews are."""
    ratios, by_strength = list[float](), dict[str, list[Key]]()
    for path in paths:
        alike = {key: path.get(key) for key in ("seed", *SETTING, "source", "target")}
        cold = {row["lambda"]: row for row in ledger.where(what="cold", **alike)}
        ratios += [path["processor"] / statistics.median(row["processor"] for row in cold.values())] if cold else []
        for stage in path["stages"]:
            if (other := cold.get(stage["lambda"])) is not None:
                row = {**stage, "cold_dice": other["dice"], "cold_drift": other["drift"]}
                by_strength.setdefault(stage["lambda"], []).append(row | {"gap": stage["dice"] - other["dice"]})
    columns = {"drift": "drift, path", "cold_drift": "drift, cold", "dice": "Dice, path", "cold_dice": "Dice, cold"}
    columns |= {"gap": "path − cold", "preview": "preview", "nearest": "nearest"}
    rows = [[λ, *(cell(own, key) for key in columns)] for λ, own in by_strength.items()]
    print(table([["λ", *columns.values()], *rows]))
    every = [row for own in by_strength.values() for row in own]
    print(f"time of a path / median of its cold trainings, by seed: {[round(ratio, 2) for ratio in ratios]}")
    print(f"Dice between the ends, by seed: {[round(path['ends'], 3) for path in paths]}")
    for key in ("gap", "preview", "nearest"):
        print(f"{columns[key]}, all λ and seeds: {cell(every, key)}")
    gaps = [row["gap"] for row in every]
    near, enough = sum(abs(gap) <= NEAR for gap in gaps), sum(gap >= -NEAR for gap in gaps)
    print(f"Dice within {NEAR} of cold: {near} of {len(gaps)}; at least −{NEAR}: {enough}")


def cell(rows: Iterable[Key], key: str) -> str:
    return spread(row[key] for row in rows if key in row)


if __name__ == "__main__":
    main()
