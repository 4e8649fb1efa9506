"""What the preview of a path of λ is worth: how fast it is, and how near to a mask that was really trained.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/scrub.py speed                     a sweep of λ on phantom photographs
    python benchmarks/scrub.py agreement --run RUN --data DATASET --lambdas 0.03,0.003 --ledger FILE.jsonl

`speed` trains a short path at 192 px and moves λ over all ticks of the slider, each as soon as the one before is shown:
milliseconds from λ to the labels on the native grid, in the process that computes. What the pipe to the window and the
drawing add is not in it.

`agreement` trains at each λ given, by default midway between the computed ones, cold from the source and warm from the
path's next larger λ, with the settings of the path, and reports the mean Dice between the masks of preview and trained
model over the held-out and validation cases. Beside it: the same with the nearest computed λ in place of the preview,
Dice between the ends of the path, and between two trainings that differ in their seed alone: more no preview can reach.
Each training is a line of the ledger. Without --run a path is trained on phantoms.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ledger import Ledger, table
from masks import Masks, dice, find

from napari_tlseg import read_dataset
from napari_tlseg.data.case import Case
from napari_tlseg.data.phantoms import write_fundus
from napari_tlseg.data.run import read_summary
from napari_tlseg.engine.predicting import load_run, load_segmenter
from napari_tlseg.engine.trainings import Finetune, Pretrain
from napari_tlseg.events import Control, Previewed
from napari_tlseg.journey import finish
from napari_tlseg.nets.checkpoint import load_model, save
from napari_tlseg.studies.jobs import LambdaPath, Scrub, parse_strengths
from napari_tlseg.studies.path import read_path

TICKS = (0.0, *(10 ** (-6 + step / 20) for step in range(161)), math.inf)
"""Of the slider."""


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        if options.run is None:
            options.data = write_phantoms(Path(folder) / "photographs", options)
            options.run = make_path(options.data, options)
        (speed if options.what == "speed" else agreement)(options, Path(folder))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "agreement"])
    parser.add_argument("--run", type=Path, help="run folder with a path; by default one is trained on phantoms")
    parser.add_argument("--data", type=Path, help="its dataset folder")
    parser.add_argument("--lambdas", default="", help="where to train for agreement; by default midway between two")
    parser.add_argument("--ways", nargs="+", default=["cold", "warm"], choices=["cold", "warm"])
    parser.add_argument("--ledger", type=Path, help="one line per training: it goes on where it was")
    parser.add_argument("--cases", type=int, default=16, help="of the phantoms")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pretrain-steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def write_phantoms(folder: Path, options: argparse.Namespace) -> Path:
    write_fundus(folder, options.cases, seed=options.seed)
    return folder


def make_path(data: Path, options: argparse.Namespace) -> Path:
    source, out = data / "clicks.safetensors", data / "path"
    facts: dict[str, Any] = {"size": options.size, "seed": options.seed, "device": "cpu"}
    finish(Pretrain(data=(data,), out=source, steps=options.pretrain_steps, **facts))
    finish(LambdaPath(data=data, out=out, source=source, steps=options.steps, **facts))
    return out


def speed(options: argparse.Namespace, _: Path) -> None:
    """Down and up again; the first preview, which prepares the plane, by itself."""
    case = read_dataset(options.data).cases[0].name
    control = Control(strength=math.inf)
    began = time.perf_counter()
    events = Scrub(data=options.data, model=options.run, case=case, device="cpu").run(control)
    next(events)
    first = time.perf_counter() - began
    times = []
    for strength in (*reversed(TICKS[:-1]), *TICKS[1:]):
        control.strength = strength
        began = time.perf_counter()
        event = next(events)
        times.append(1e3 * (time.perf_counter() - began))
        assert isinstance(event, Previewed) and event.strength == strength
    control.stop = True
    assert list(events)
    p50, p95 = np.percentile(times, [50, 95])
    shape = " × ".join(map(str, event.labels.shape))
    print(f"{len(times)} λ, {shape} pixels, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {max(times):.0f} ms; first {first:.2f} s")


def agreement(options: argparse.Namespace, folder: Path) -> None:
    """Preview, nearest computed λ, and trained model against each other."""
    stages, between = read_path(options.run)
    computed = [float(stage["strength"]) for stage in stages]
    strengths = parse_strengths(options.lambdas) if options.lambdas else midway(computed)
    ledger = Ledger(options.ledger or folder / "ledger.jsonl")
    look = Look(options.run, options.data)
    ends = dice(look.at(between.at(max(computed))), look.at(between.at(min(computed))))
    rows: list[list[object]] = [["λ", "way", "preview", "nearest λ", "another seed"]]
    for strength in strengths:
        preview, nearest = look.at(between.at(strength)), look.at(between.at(between.nearest(strength)))
        for way in options.ways:
            run = {"run": options.run.name, "lambda": str(strength), "way": way}

            def work(strength: float = strength, way: str = way, a: Masks = preview, b: Masks = nearest) -> Any:
                one, other = (look.of(train(options, folder, strength, way, seed)) for seed in (0, 1))
                return {"preview": dice(a, one), "nearest": dice(b, one), "seeds": dice(one, other), "ends": ends}

            found = ledger.once(run, work)
            rows.append([f"{strength:g}", way, *(f"{found[key]:.3f}" for key in ("preview", "nearest", "seeds"))])
    print(table(rows))
    print(f"Dice between the ends of the path: {ends:.3f}; {len(look.cases)} cases")


def midway(computed: list[float]) -> tuple[float, ...]:
    """Between each two finite λ but 0, by ratio."""
    finite = [λ for λ in computed if 0 < λ < math.inf]
    return tuple(math.sqrt(a * b) for a, b in pairwise(finite))


class Look:
    """Masks of the validation and held-out cases."""

    def __init__(self, run: Path, data: Path) -> None:
        summary = read_summary(run)
        names = {*summary["cases"], *summary["validation"]["cases"]}
        self.cases: list[Case] = [case for case in read_dataset(data) if case.name in names]
        self._job = Scrub(data=data, model=run, case="", device="cpu")
        self._segmenter = load_segmenter(self._job, load_run(run))

    def at(self, weights: Mapping[str, torch.Tensor]) -> Masks:
        return find(self._segmenter, self.cases, weights)

    def of(self, run: Path) -> Masks:
        return find(load_segmenter(self._job, load_run(run)), self.cases)


def train(options: argparse.Namespace, folder: Path, strength: float, way: str, seed: int) -> Path:
    """A run at one λ with the settings of the path; warm: from its next larger λ, in as few steps as the path took."""
    asked = json.loads((options.run / "job.json").read_text())
    kept = ("masks", "recipe", "size", "batch", "learning_rate", "held_out", "labels", "loss", "solver", "norm")
    facts = {name: asked[name] for name in (*kept, "encoder", "transfer", "anchor", "crop", "device", "precision")}
    source, focus = (name if name in ("none", "imagenet") else Path(name) for name in (asked["source"], asked["focus"]))
    steps, start = asked["steps"], None
    if way == "warm":
        steps, start = max(2, round(asked["warm"] * steps)), larger(options.run, folder, strength)
    out = folder / f"{way}-{strength:g}-{seed}"
    job = Finetune(
        data=options.data,
        out=out,
        source=source,
        focus=focus,
        strength=strength,
        steps=steps,
        start=start,
        seed=asked["seed"] + seed,
        stage_weights=tuple(asked["stage_weights"]),
        overwrite=True,
        **facts,
    )
    finish(job)
    return out


def larger(run: Path, folder: Path, strength: float) -> Path:
    """The model of the path at its next larger λ, as a run to start from."""
    checkpoint, (_, between) = load_run(run), read_path(run)
    model = load_model(checkpoint)
    model.load_state_dict(between.at(min(λ for λ in between.weights if λ > strength)))
    out = folder / f"start-{strength:g}"
    out.mkdir(exist_ok=True)
    save(out / "model.safetensors", model, checkpoint.provenance)
    return out


if __name__ == "__main__":
    main()
