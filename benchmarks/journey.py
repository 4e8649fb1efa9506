"""From clicks to masks on real photographs: does the source help, and which λ?

    python benchmarks/journey.py --clicks DATASET --target DATASET --ledger benchmarks/results/journey.jsonl

For each seed: an encoder is pretrained as a localizer on the clicks of one data set; on few masks of the other a
U-Net is trained from scratch and from that source at each λ. With 20 masks the λ is chosen by Dice on the validation
cases, with 5 by leave-one-out over the five; held-out cases are scored once for every run, and only the row of the
chosen λ is a result. Each finished run is a line of the ledger: the study goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ledger import Key, Ledger, table

from napari_tlseg import read_dataset
from napari_tlseg.data.case import Case
from napari_tlseg.data.split import choose, split_dataset
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.journey import finish


def main() -> None:
    options = parse()
    ledger = Ledger(options.ledger)
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            Seed(options, ledger, seed, Path(folder), until).run()
    report(ledger, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=Path, required=True, help="dataset folder with clicks.csv")
    parser.add_argument("--target", type=Path, required=True, help="dataset folder with masks")
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "journey.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0, 1e-4, 1e-3, math.inf])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--fold-steps", type=int, default=60, help="of each leave-one-out run")
    parser.add_argument("--pretrain-steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=4, help="of the fine-tunings")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further run after so long")
    return parser.parse_args()


class Seed:
    """All runs of one seed."""

    def __init__(self, options: argparse.Namespace, ledger: Ledger, seed: int, folder: Path, until: float) -> None:
        self.options, self.ledger, self.seed, self.folder, self.until = options, ledger, seed, folder, until
        self.source = options.ledger.parent / "sources" / f"clicks-{seed}.safetensors"

    def run(self) -> None:
        self.once({"what": "pretrain", "steps": self.options.pretrain_steps}, self.pretrain)
        for labels in self.options.labels:
            for strength in (None, *self.options.strengths):
                key = {"what": "finetune", "labels": labels, "lambda": str(strength), "steps": self.options.steps}
                self.once(key, lambda: self.finetune(self.options.target, strength, labels, self.options.steps))  # noqa: B023
                if labels < 10 and strength is not None:
                    self.leave_one_out(labels, strength)

    def once(self, key: Key, work: Any) -> None:
        key = {"seed": self.seed, "size": self.options.size, **key}
        if time.monotonic() < self.until or self.ledger.where(**key):
            print(self.ledger.once(key, work), flush=True)

    def pretrain(self) -> Key:
        options = self.options
        job = Pretrain(
            data=(options.clicks,),
            out=self.source,
            seed=self.seed,
            size=options.size,
            steps=options.pretrain_steps,
            overwrite=True,
        )
        began = time.monotonic()
        summary = finish(job).summary
        return {part: dict(summary[part]) for part in ("validation", "held_out")} | {
            "seconds": time.monotonic() - began
        }

    def finetune(
        self, data: Path, strength: float | None, labels: int | None, steps: int, held_out: float = 0.2
    ) -> Key:
        job = Finetune(
            data=data,
            out=self.folder / "run",
            source="none" if strength is None else self.source,
            strength=strength or 0.0,
            labels=labels,
            size=self.options.size,
            steps=steps,
            batch=self.options.batch,
            seed=self.seed,
            held_out=held_out,
            overwrite=True,
        )
        summary = finish(job).summary
        keep = ("dice_mean", "dice_sd", "precision_mean", "hd95_mean", "scored")
        return {
            "drift": summary["drift"],
            "seconds": summary["seconds"],
            "held_out": {name: summary[name] for name in keep},
            "validation": {name: summary["validation"][name] for name in keep},
        }

    def leave_one_out(self, labels: int, strength: float) -> None:
        dataset = read_dataset(self.options.target)
        parts = choose(dataset, split_dataset(dataset, self.seed), labels, "mask", self.seed)
        cases = (*parts.training, *parts.validation)
        for number, left in enumerate(cases):
            steps = self.options.fold_steps
            key = {"what": "fold", "labels": labels, "lambda": str(strength), "steps": steps, "fold": number}
            self.once(key, lambda: self.finetune(self.fold(cases, left), strength, None, steps, held_out=0.0))  # noqa: B023

    def fold(self, cases: tuple[Case, ...], left: Case) -> Path:
        """A dataset folder of these cases, `left` alone its validation."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for case in cases:
            for kind, path in (("images", case.image), ("masks", case.mask)):
                (folder / kind).mkdir(exist_ok=True)
                if path is not None:
                    (folder / kind / path.name).symlink_to(path.resolve())
        (folder / "dataset.toml").write_bytes((self.options.target / "dataset.toml").read_bytes())
        rows = [f"{case.name},{'validation' if case is left else 'training'}" for case in cases]
        (folder / "split.csv").write_text("\n".join(["case,part", *rows]) + "\n")
        return folder


def report(ledger: Ledger, options: argparse.Namespace) -> None:
    """The tables of docs/results.md, from what the ledger holds."""
    sources = ledger.where(what="pretrain", size=options.size, steps=options.pretrain_steps)
    print("\nLocalization, held-out clicks: median error, px")
    print(
        table(
            [
                ["seed", "median", "95%", "cases"],
                *(
                    [r["seed"], *(f"{r['held_out'][k]:.1f}" for k in ("error", "error_p95")), r["held_out"]["cases"]]
                    for r in sources
                ),
            ]
        )
    )
    for labels in options.labels:
        print(f"\n{labels} masks, held-out Dice (mean over cases), by seed")
        seeds = sorted({row["seed"] for row in ledger.where(what="finetune", labels=labels)})
        rows = [["λ", *(f"seed {seed}" for seed in seeds), "mean ± SD", "drift"]]
        for strength in (None, *options.strengths):
            runs = [
                r
                for s in seeds
                for r in ledger.where(
                    what="finetune", labels=labels, seed=s, steps=options.steps, **{"lambda": str(strength)}
                )
            ]
            if runs:
                dice = [run["held_out"]["dice_mean"] for run in runs]
                drifts = [run["drift"] for run in runs if run["drift"] is not None]
                rows.append(
                    [
                        "scratch" if strength is None else f"{strength:g}",
                        *(f"{d:.3f}" for d in dice),
                        spread(dice),
                        f"{statistics.mean(drifts):.3g}" if drifts else "–",
                    ]
                )
        chosen = [(seed, chosen_strength(ledger, options, seed, labels)) for seed in seeds]
        dice = [
            ledger.where(what="finetune", labels=labels, seed=s, steps=options.steps, **{"lambda": str(c)})[0][
                "held_out"
            ]["dice_mean"]
            for s, c in chosen
            if c is not None
        ]
        if dice:
            rows.append(
                [
                    "chosen",
                    *(f"{d:.3f} (λ = {c:g})" for d, (_, c) in zip(dice, chosen, strict=False) if c is not None),
                    spread(dice),
                    "–",
                ]
            )
        print(table(rows))


def chosen_strength(ledger: Ledger, options: argparse.Namespace, seed: int, labels: int) -> float | None:
    """The λ with the best Dice on validation cases, or over the folds; of equals the larger."""
    what, steps = ("fold", options.fold_steps) if labels < 10 else ("finetune", options.steps)
    means = {}
    for strength in options.strengths:
        runs = ledger.where(what=what, labels=labels, seed=seed, steps=steps, **{"lambda": str(strength)})
        if runs:
            means[strength] = statistics.mean(run["validation"]["dice_mean"] for run in runs)
    return max(means, key=lambda strength: (round(means[strength], 4), strength), default=None)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


if __name__ == "__main__":
    main()
