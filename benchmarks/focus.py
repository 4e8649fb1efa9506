"""Looking where the click says: whole photographs against crops about the target, and the localizers that say where.

    python benchmarks/focus.py --clicks DATASET --target DATASET --ledger benchmarks/results/focus.jsonl

For each seed a localizer of each head is pretrained on the clicks of one data set. How far off it is, and whether it
says so where it fails (off by more than the target's radius), is measured on held-out cases there and, without further
training, on all cases of the target set, whose centres are those of their masks. On few masks of the target set a U-Net
is then trained on whole photographs and on crops, from scratch and from the localizer's encoder at each λ. Held-out
cases are scored once for every run; λ is chosen on validation cases. Each finished run is a line of the ledger: the
study goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from ledger import Key, Ledger, table, unsplit

from napari_tlseg import read_dataset
from napari_tlseg.data.annotations import read_mask
from napari_tlseg.data.case import Case
from napari_tlseg.data.guesses import read_guesses
from napari_tlseg.data.split import split_dataset
from napari_tlseg.engine.jobs import Locate
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.events import Evaluated, Finished
from napari_tlseg.journey import finish

RADIUS = 75.0
"""Of a disc in the photographs with clicks, which have no masks, px."""
RULES = 3
"""By 1 (the first runs) a crop grew without end, and a sure localizer was not believed; by 2 the weights were picked by
the validation cases, also by a single one, and training crops were turned by 15° at most."""
KEPT = ("dice_mean", "dice_sd", "hd95_mean", "scored")


def main() -> None:
    options = parse()
    ledger, until = Ledger(options.ledger), time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            Seed(options, ledger, seed, Path(folder), until).run()
    report(ledger)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=Path, required=True, help="dataset folder with clicks.csv")
    parser.add_argument("--target", type=Path, required=True, help="dataset folder with masks")
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "focus.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="+", default=["heatmap", "regression", "unet"], help="the first says where")
    parser.add_argument("--looks", nargs="+", default=["focus", "whole"])
    parser.add_argument("--labels", type=int, nargs="*", default=[5, 20, 2])
    parser.add_argument("--strengths", nargs="+", default=["scratch", "0.001", "0", "inf"], help="λ, or scratch")
    parser.add_argument("--sizes", type=int, nargs=2, default=[96, 128], help="of crops, and of whole photographs")
    parser.add_argument("--crop", type=float, default=2.0, help="side of the crops in extents of the target")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--pretrain-size", type=int, default=192)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--source-head", help="whose encoder is the source; by default that which says where")
    parser.add_argument("--anchor", choices=["encoder", "all"], default="encoder")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further run after so long")
    return parser.parse_args()


class Seed:
    """All runs of one seed."""

    def __init__(self, options: argparse.Namespace, ledger: Ledger, seed: int, folder: Path, until: float) -> None:
        self.options, self.ledger, self.seed, self.folder, self.until = options, ledger, seed, folder, until
        self.clicks = unsplit(options.clicks, folder / f"clicks-{seed}")
        self.target = unsplit(options.target, folder / f"target-{seed}")

    def run(self) -> None:
        options = self.options
        for head in options.heads:
            key = {"what": "localizer", "head": head, "steps": options.pretrain_steps, "rules": RULES}
            key |= {"calibrated": True}
            self.once(key, partial(self.localizer, head))
        for labels in options.labels:
            for strength in options.strengths:
                for look in options.looks:
                    key = {"what": "finetune", "labels": labels, "look": look, "lambda": strength, "rules": RULES}
                    key |= {"size": self.size(look), "steps": options.steps, "anchor": options.anchor}
                    key |= {"batch": options.batch, "rate": options.learning_rate}
                    key |= {"crop": options.crop} if look == "focus" else {}
                    key |= {"source": options.source_head} if options.source_head else {}
                    self.once(key, partial(self.finetune, labels, look, strength))

    def once(self, key: Key, work: Callable[[], Key]) -> None:
        key = {"seed": self.seed, **key}
        if time.monotonic() < self.until or self.ledger.where(**key):
            print(self.ledger.once(key, work), flush=True)

    def source(self, head: str) -> Path:
        return self.options.ledger.parent / "sources" / f"{head}-{self.seed}.safetensors"

    def size(self, look: str) -> int:
        return int(self.options.sizes[0 if look == "focus" else 1])

    def localizer(self, head: str) -> Key:
        options, began = self.options, time.monotonic()
        job = Pretrain(
            data=(self.clicks,),
            out=self.source(head),
            head=head,  # type: ignore[arg-type]
            seed=self.seed,
            size=options.pretrain_size,
            steps=options.pretrain_steps,
            overwrite=True,
        )
        looks = []
        for event in job.run():
            if isinstance(event, Evaluated):
                looks.append([event.step, round(event.scores["error"], 1)])
            last = event
        assert isinstance(last, Finished)
        validation, seconds = last.summary["validation"], time.monotonic() - began
        dataset = read_dataset(self.clicks)
        parts = split_dataset(dataset, self.seed).parts
        clicked = {case.name: case.click for case in dataset.clicked if case.click and parts[case.name] == "held-out"}
        discs = {case.name: _middle(case) for case in read_dataset(self.target).labelled}
        return {
            "seconds": round(seconds),
            "validation": dict(validation),
            "looks": looks,
            "held_out": self.located(head, self.clicks, {n: (y, x, RADIUS) for n, (y, x) in clicked.items()}),
            "target": self.located(head, self.target, discs),
        }

    def located(self, head: str, data: Path, truth: dict[str, tuple[float, float, float]]) -> Key:
        """How far off the guesses are; (y, x, radius) of each target."""
        out, dataset = self.folder / "centres.csv", read_dataset(data)
        finish(Locate(data=data, model=self.source(head), out=out, overwrite=True, device="cpu"))
        names = sorted(truth)
        found = read_guesses(out, dataset)
        guesses = [found[name] for name in names]
        errors = np.array([math.dist(found[name].point, truth[name][:2]) for name in names])
        failed = errors > np.array([truth[name][2] for name in names])
        unsure = np.array([guess.unsure for guess in guesses])
        known = [guess.doubt for guess in guesses if guess.doubt is not None]
        return {
            "cases": len(names),
            "median": round(float(np.median(errors)), 2),
            "p95": round(float(np.percentile(errors, 95)), 2),
            "worst": round(float(errors.max()), 2),
            "failures": int(failed.sum()),
            "unsure": int(unsure.sum()),
            "failures_unflagged": int((failed & ~unsure).sum()),
            "doubt_rank_correlation": round(_rank_correlation(errors, np.array(known)), 2) if known else None,
            "rms_error_over_doubt": round(float(np.sqrt(np.mean(errors**2) / np.mean(np.square(known)))), 2)
            if known
            else None,
        }

    def finetune(self, labels: int, look: str, strength: str) -> Key:
        options, out = self.options, self.folder / "run"
        scratch = strength == "scratch"
        job = Finetune(
            data=self.target,
            out=out,
            source="none" if scratch else self.source(options.source_head or options.heads[0]),
            strength=0.0 if scratch else float(strength),
            anchor="encoder" if scratch else options.anchor,
            focus=self.source(options.heads[0]) if look == "focus" else "none",
            labels=labels,
            size=self.size(look),
            steps=options.steps,
            batch=options.batch,
            crop=options.crop,
            learning_rate=options.learning_rate,
            seed=self.seed,
            overwrite=True,
        )
        summary = finish(job).summary
        with (out / "scores.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["part"] == "held-out"]
        return {
            "drift": summary["drift"],
            "seconds": round(summary["seconds"], 1),
            "held_out": {name: summary[name] for name in KEPT} | {"worst": min(float(row["dice"]) for row in rows)},
            "validation": {name: summary["validation"][name] for name in KEPT},
            "doubts": {row["case"]: [round(float(row["dice"]), 3), row["doubt"]] for row in rows if row.get("doubt")},
            "low": {row["case"]: round(float(row["dice"]), 3) for row in rows if float(row["dice"]) < 0.85},
        }


def _middle(case: Case) -> tuple[float, float, float]:
    """(y, x, radius) of the mask of a photograph."""
    y, x = np.nonzero(read_mask(case, 2)[0])
    return float(y.mean()), float(x.mean()), float(math.sqrt(len(y) / math.pi))


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def report(ledger: Ledger) -> None:
    """The tables of docs/results.md, from what the ledger holds."""
    rows: list[Iterable[object]] = [
        [
            "head",
            "seed",
            "on",
            "median",
            "95%",
            "worst",
            "failures",
            "unsure",
            "unflagged failures",
            "error / doubt",
            "s",
        ]
    ]
    localizers = ledger.where(what="localizer", rules=RULES, calibrated=True)
    for row in localizers:
        for where in ("held_out", "target"):
            found = row[where]
            numbers = (f"{found[name]:.1f}" for name in ("median", "p95", "worst"))
            counts = (f"{found[n]} of {found['cases']}" for n in ("failures", "unsure", "failures_unflagged"))
            rows.append(
                [row["head"], row["seed"], where, *numbers, *counts, found["rms_error_over_doubt"], row["seconds"]]
            )
    print("\nLocalization, px\n" + table(rows))
    for row in localizers:
        print(f"{row['head']} {row['seed']}, validation median by step:", row["looks"])
    runs = ledger.where(what="finetune", rules=RULES)
    for labels in sorted({run["labels"] for run in runs}):
        rows = [["look", "source", "λ", "Dice by seed", "mean ± SD", "worst", "HD95, px", "validation", "s"]]
        groups: dict[tuple[str, ...], list[Key]] = {}
        for run in (run for run in runs if run["labels"] == labels):
            groups.setdefault((run["look"], _source(run), run["lambda"]), []).append(run)
            if _source(run) == "heatmap":
                groups.setdefault((run["look"], _source(run), "chosen"), []).append(run)
        for (look, source, strength), alike in groups.items():
            chosen = _best_by_seed(alike) if strength == "chosen" else alike
            if chosen:
                rows.append([look, source, strength, *_cells(chosen)])
        print(f"\n{labels} masks, held-out cases\n" + table(rows))


def _source(run: Key) -> str:
    if run["lambda"] == "scratch":
        return "none"
    return str(run.get("source", "heatmap")) + (" and decoder" if run["anchor"] == "all" else "")


def _best_by_seed(runs: list[Key]) -> list[Key]:
    """Of each seed the run whose λ has the best Dice on its validation cases; none where there are no such cases."""
    seeds = sorted({run["seed"] for run in runs})
    own = [
        [run for run in runs if run["seed"] == seed and run["validation"]["dice_mean"] is not None] for seed in seeds
    ]
    return [max(alike, key=lambda run: float(run["validation"]["dice_mean"])) for alike in own if alike]


def _cells(runs: list[Key]) -> list[str]:
    dice = [run["held_out"]["dice_mean"] for run in runs]
    validation = [value for run in runs if (value := run["validation"]["dice_mean"]) is not None]
    return [
        " / ".join(f"{value:.3f}" for value in dice),
        f"{statistics.mean(dice):.3f}" + (f" ± {statistics.stdev(dice):.3f}" if len(dice) > 1 else ""),
        f"{min(run['held_out']['worst'] for run in runs):.3f}",
        f"{statistics.mean(run['held_out']['hd95_mean'] for run in runs):.1f}",
        f"{statistics.mean(validation):.3f}" if validation else "–",
        f"{statistics.mean(run['seconds'] for run in runs):.0f}",
    ]


if __name__ == "__main__":
    main()
