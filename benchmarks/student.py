"""Noisy student: images without masks beside masked ones, against the same training without them.

    python benchmarks/student.py --data DATASET --unlabelled DATASET --ledger benchmarks/results/student.jsonl

Every masked case is held out once: in each fold a fifth of the other cases validates, the rest trains. The teacher is a
fine-tuning, and the comparison; then come the students, each taught by the one before. `noise` is a student whose
unlabelled images count nothing: all of its gain, if there is one, is the noise's. The held-out cases are looked at
once, after each training; nothing is chosen by them. Each training is a line of the ledger, and the rounds are folders:
the study goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

from ledger import Key, Ledger, table

from napari_tlseg import read_dataset
from napari_tlseg.data.run import read_summary
from napari_tlseg.data.split import Part, rank
from napari_tlseg.data.tables import write_rows
from napari_tlseg.journey import finish
from napari_tlseg.learn.metrics import paired_test
from napari_tlseg.studies.teaching import Student
from napari_tlseg.studies.trials import make_folds

NOTHING = 1e-9
"""What the unlabelled images count in `noise`."""
OPTIONS = ("source", "strength", "encoder", "size", "steps", "batch", "learning_rate", "threshold", "dropout")


def main() -> None:
    options = parse()
    ledger, until = Ledger(options.ledger), time.monotonic() + 60 * options.minutes
    cases = read_dataset(options.data).labelled
    for seed in options.seeds:
        for number, fold in enumerate(make_folds(cases, options.folds, seed)):
            if number in (options.only or range(options.folds)) and time.monotonic() < until:
                run_fold(options, ledger, seed, number, fold)
    report(ledger)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder with masks")
    parser.add_argument("--unlabelled", type=Path, required=True, help="dataset folder whose masks are not looked at")
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "student.jsonl")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs, outside of the repository")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--source", default="none")
    parser.add_argument("--strength", type=float, default=0.0, help="λ")
    parser.add_argument("--encoder", default="unet")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threshold", type=float, default=Student.threshold)
    parser.add_argument("--dropout", type=float, default=Student.dropout)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further fold after so long")
    return parser.parse_args()


def run_fold(options: argparse.Namespace, ledger: Ledger, seed: int, number: int, fold: tuple[str, ...]) -> None:
    place = options.runs / f"seed{seed}-fold{number}"
    data = prepare(options.data, place / options.data.name, seed, fold)
    shared = {name: getattr(options, name) for name in OPTIONS}
    shared["source"] = options.source if options.source in ("none", "imagenet") else Path(options.source)
    key = {"seed": seed, "fold": number, **{name: str(getattr(options, name)) for name in OPTIONS}}

    def arm(name: str, run: Path, round_: int, **more: object) -> None:
        def work() -> Key:
            job = {"data": data, "unlabelled": options.unlabelled, "seed": seed, "out": run, "rounds": round_}
            finish(Student(**job, **shared, **more))  # type: ignore[arg-type]
            return result(run / "rounds" / str(round_))

        print(ledger.once({**key, "arm": name}, work), flush=True)

    for round_ in range(options.rounds + 1):
        arm(f"student {round_}" if round_ else "teacher", place / "student", round_)
    teacher = place / "student" / "rounds" / "0"
    if teacher.exists():
        arm("noise", place / "noise", 1, teacher=teacher, unlabelled_weight=NOTHING)


def prepare(data: Path, place: Path, seed: int, fold: tuple[str, ...]) -> Path:
    """A dataset folder of the same files, which holds out the fold."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("images", "masks", "rois", "patients.csv", "dataset.toml"):
        if (data / name).exists() and not (place / name).exists():
            (place / name).symlink_to((data / name).resolve())
    rest = sorted((c.name for c in read_dataset(data).labelled if c.name not in fold), key=lambda n: rank(seed, n))
    parts: dict[str, Part] = dict.fromkeys(fold, "held-out") | dict.fromkeys(rest, "training")
    parts |= dict.fromkeys(rest[: len(rest) // 5], "validation")
    write_rows(place / "split.csv", ("case", "part"), list(parts.items()))
    return place


def result(run: Path) -> Key:
    """What the held-out cases say, each; and the validation cases together."""
    summary = read_summary(run)
    with (run / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "held-out" and row["dice"]]
    return {
        "dice": {row["case"]: round(float(row["dice"]), 4) for row in rows},
        "validation": summary["validation"]["dice_mean"],
        "pseudo": summary.get("pseudo"),
        "seconds": round(summary["seconds"]),
    }


def report(ledger: Ledger) -> None:
    """Held-out Dice of each arm over the cases, against the teacher on the same cases."""
    rows: list[Iterable[object]] = [
        ["setting", "arm", "cases", "Dice ± SD", "against the teacher", "p (Wilcoxon)", "validation", "s per fold"]
    ]
    kinds = dict.fromkeys(tuple(row[name] for name in OPTIONS) for row in ledger.where())
    for kind in kinds:
        own = ledger.where(**dict(zip(OPTIONS, kind, strict=True)))
        dice = {
            arm: {(row["seed"], case): each for row in own if row["arm"] == arm for case, each in row["dice"].items()}
            for arm in dict.fromkeys(row["arm"] for row in own)
        }
        for arm, found in dice.items():
            both = found.keys() & dice["teacher"].keys()
            gain = statistics.mean(found[key] - dice["teacher"][key] for key in both)
            p = paired_test(found, dice["teacher"])
            alike = [row for row in own if row["arm"] == arm]
            rows.append(
                [
                    " ".join(kind),
                    arm,
                    len(found),
                    f"{statistics.mean(found.values()):.3f} ± {statistics.stdev(found.values()):.3f}",
                    "–" if arm == "teacher" else f"{gain:+.3f}",
                    "–" if p is None else f"{p:.2g}",
                    f"{statistics.mean(row['validation'] for row in alike):.3f}",
                    f"{statistics.mean(row['seconds'] for row in alike):.0f}",
                ]
            )
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
