"""Every kind of source against none, on few masks of each target, and what the source cost to make.

    python benchmarks/sources.py --data DATASETS --weights MOBILENET --out STUDIES --targets fundus_drions_db

`--data` is the folder of the dataset folders. The sources are made once (one seed; their cost and validation scores are
lines of the ledger). For each target and encoder, `efficiency` trains from each source and from none, in folds: every
case of the target that is not held out is tested once, λ of a fold is the one that is best in the others. Each training
is a file below `--out`: the study goes on where it was. Nothing is chosen by hand.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ledger import Key, Ledger, table

from napari_tlseg.engine.trainings import Pretrain
from napari_tlseg.journey import finish
from napari_tlseg.studies.jobs import Efficiency

CLICKS, ORGANS = ("fundus_hei_med",), ("lung_ct_chest_subset", "lung_ct_lungsegdb")
FLAT, NATURAL = "unet", "mobilenet_v2"
WEIGHTS = "weights"
"""Stands for the file of ImageNet weights."""


@dataclass(frozen=True)
class Recipe:
    """How a source is made; of foreign weights there is nothing to make."""

    encoder: str
    data: tuple[str, ...] = ()
    task: str = "localize"
    head: str = "regression"
    init: str = "none"
    transfer: str = "full"


SOURCES = {
    "clicks, regression": Recipe(FLAT, CLICKS),
    "clicks, heat map": Recipe(FLAT, CLICKS, head="heatmap"),
    "clicks, U-Net": Recipe(FLAT, CLICKS, head="unet"),
    "organs": Recipe(FLAT, ORGANS, "segment"),
    "organs, classified": Recipe(FLAT, ORGANS[:1], "classify"),
    "organs, MAKNet": Recipe("maknet", ORGANS, "segment"),
    "Nat": Recipe(NATURAL),
    "Med": Recipe(NATURAL, ORGANS, "segment"),
    "Med+Nat": Recipe(NATURAL, ORGANS, "segment", init=WEIGHTS),
    "Med+Nat, lowest:2": Recipe(NATURAL, ORGANS, "segment", init=WEIGHTS, transfer="lowest:2"),
    "Med+Nat, mean-var": Recipe(NATURAL, ORGANS, "segment", init=WEIGHTS, transfer="mean-var"),
}


def main() -> None:
    options = parse()
    ledger = Ledger(options.ledger)
    for target in options.targets:
        for encoder, transfer in dict.fromkeys(
            (SOURCES[name].encoder, SOURCES[name].transfer) for name in options.only
        ):
            names = [n for n in options.only if (SOURCES[n].encoder, SOURCES[n].transfer) == (encoder, transfer)]
            keep(options, ledger, target, encoder, transfer, names)
    report(ledger)


def alike(name: str) -> tuple[str, str]:
    """What the sources of one study share."""
    return SOURCES[name].encoder, SOURCES[name].transfer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset folders")
    parser.add_argument("--weights", type=Path, required=True, help=f"file of ImageNet weights of {NATURAL}")
    parser.add_argument("--out", type=Path, required=True, help="folder for sources and studies")
    parser.add_argument("--ledger", type=Path, default=Path(__file__).parent / "results" / "sources.jsonl")
    parser.add_argument("--targets", nargs="+", default=["fundus_drions_db", "covid_ct_medseg50", "lung_nifti"])
    parser.add_argument("--only", nargs="+", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--masks", type=int, default=8)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pretrain-steps", type=int, default=400)
    return parser.parse_args()


def keep(
    options: argparse.Namespace, ledger: Ledger, target: str, encoder: str, transfer: str, names: list[str]
) -> None:
    """A study of the sources that share an encoder and a transfer; a line of the ledger for each."""
    files = {name: source(options, ledger, name) for name in names}
    job = Efficiency(
        data=options.data / target,
        out=options.out / "-".join([target, encoder, transfer.replace(":", ""), str(options.masks)]),
        sources=("none", *map(str, files.values())),
        sizes=(options.masks,),
        strengths=(0.0,) if transfer == "mean-var" else (math.inf, 1e-3, 0.0),
        encoder=encoder,
        transfer=transfer,  # type: ignore[arg-type]
        folds=options.folds,
        size=options.size,
        steps=options.steps,
        batch=options.batch,
    )
    rows: dict[str, Key] = {row["source"]: row for row in finish(job).summary["efficiency"]}
    for name, label in {"none": "none", **{name: path.stem for name, path in files.items()}}.items():
        key = {"target": target, "encoder": encoder, "transfer": transfer, "source": name, "masks": options.masks}
        key |= {"size": options.size, "steps": options.steps, "batch": options.batch, "folds": options.folds}
        print(ledger.once(key, partial(dict, rows[label] | key)), flush=True)


def source(options: argparse.Namespace, ledger: Ledger, name: str) -> Path:
    """The file of a source, made where it is not there yet; what it cost is a line too."""
    recipe = SOURCES[name]
    if not recipe.data:
        return Path(options.weights)
    file = "-".join([recipe.encoder, *recipe.data, recipe.task, recipe.head, recipe.init, str(options.size)])
    path = options.out / "sources" / f"{file}.safetensors"
    key = {"made": path.stem, "steps": options.pretrain_steps}
    if path.exists() and ledger.where(**key):
        return path

    def work() -> Key:
        began = time.monotonic()
        job = Pretrain(
            data=tuple(options.data / each for each in recipe.data),
            out=path,
            task=recipe.task,  # type: ignore[arg-type]
            head=recipe.head,  # type: ignore[arg-type]
            encoder=recipe.encoder,
            init=options.weights if recipe.init == WEIGHTS else "none",
            size=options.size,
            steps=options.pretrain_steps,
            overwrite=True,
        )
        return {"validation": dict(finish(job).summary["validation"]), "seconds": round(time.monotonic() - began)}

    print(ledger.once(key, work), flush=True)
    return path


def cells(row: Key) -> Iterable[str]:
    """Dice at the chosen λ and at its ends, and p of the first against none."""
    yield f"{row['dice_mean']:.3f} ± {row['dice_se']:.3f}"
    yield from ("–" if row[name] is None else f"{row[name]:.3f}" for name in ("λ = 0", "λ = ∞"))
    yield "–" if row["p"] is None else f"{row['p']:.2g}"


def report(ledger: Ledger) -> None:
    """The table of docs/results.md, from what the ledger holds."""
    rows: list[Iterable[object]] = [["target", "masks", "encoder", "source", "Dice ± SE", "λ = 0", "frozen", "p"]]
    for row in (row for row in ledger.where() if "target" in row):
        rows.append([row["target"], row["masks"], row["encoder"], row["source"], *cells(row)])
    print("\n" + table(rows))
    for row in (row for row in ledger.where() if "made" in row):
        print(row["made"], f"{row['seconds']} s", row["validation"])


if __name__ == "__main__":
    main()
