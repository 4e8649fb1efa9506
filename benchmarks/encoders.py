"""What each encoder costs: parameters, the time of a training step and of a prediction, and the memory of a step.

A U-Net of two classes on noise, as `fit` trains it: channels_last, bfloat16 where the CPU has it, fused Adam. Every
encoder and size in a process of its own, as the peak of a process does not fall; memory is that peak, less what was
resident before the network was made. The ledger is continued where it was left.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/encoders.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
import tyro
from ledger import Ledger, table

from napari_tlseg.learn.device import autocast, pick_device, pick_precision, settle
from napari_tlseg.learn.objectives import log_dice
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.unet import UNet

ENCODERS = ("unet", "maknet", "mobilenet_v2", "resnet18", "resnet34", "vgg16", "densenet121")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and how often."""

    encoders: tuple[str, ...] = ENCODERS
    sizes: tuple[int, ...] = (256, 384)
    batch: int = 2
    steps: int = 5
    """Timed, after one that warms up."""
    channels: int = 1
    device: str = "cpu"
    ledger: Path = Path(__file__).parent / "results" / "encoders.jsonl"
    alone: bool = False
    """Measure the first encoder at the first size in this process, and print it: what the others are run with."""


def measure(settings: Settings) -> dict[str, Any]:
    """Of one encoder at one size."""
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    device, size = pick_device(settings.device), settings.sizes[0]
    precision, before = pick_precision("auto", device), psutil.Process().memory_info().rss
    model = UNet(make_encoder(settings.encoders[0], settings.channels), 2)
    settle(model, device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    images = torch.rand(settings.batch, settings.channels, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(2, (settings.batch, size, size), device=device)

    def step() -> None:
        with autocast(device, precision):
            loss = log_dice(model(images).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()

    def predict() -> None:
        with torch.inference_mode(), autocast(device, precision):
            model(images).sum().item()

    trained = timed(step, settings.steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes, on Linux
    model.eval()
    return {
        "encoder parameters": sum(p.numel() for p in model.encoder.parameters()),
        "decoder parameters": sum(p.numel() for p in model.decoder.parameters()),
        "precision": str(precision).removeprefix("torch."),
        "step ms": trained,
        "predict ms": timed(predict, settings.steps),
        "step MB": (peak - before) / 1e6,
    }


def timed(work: Callable[[], None], steps: int) -> list[float]:
    """Milliseconds of each, but for the first."""
    took = []
    for _ in range(steps + 1):
        began = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - began))
    return [round(each, 1) for each in took[1:]]


def in_a_process(settings: Settings, encoder: str, size: int) -> dict[str, Any]:
    """`measure`, in a fresh one."""
    options = {"batch": settings.batch, "steps": settings.steps, "channels": settings.channels}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, __file__, "--alone", "--encoders", encoder, "--sizes", str(size), *words]
    done = subprocess.run([*command, "--device", settings.device], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(settings: Settings) -> None:
    """Measure what the ledger lacks, and print all of it as a table."""
    if settings.alone:
        print(json.dumps(measure(settings)))
        return
    ledger, rows = Ledger(settings.ledger), []
    for size in settings.sizes:
        for encoder in settings.encoders:
            key = {"encoder": encoder, "size": size, "batch": settings.batch, "device": settings.device}
            found = ledger.once(key, lambda encoder=encoder, size=size: in_a_process(settings, encoder, size))
            steps = found["step ms"]
            rows.append(
                [
                    encoder,
                    size,
                    f"{found['encoder parameters'] / 1e6:.2f} + {found['decoder parameters'] / 1e6:.2f}",
                    f"{median(steps):.0f} [{min(steps):.0f}, {max(steps):.0f}]",
                    f"{median(found['predict ms']):.0f}",
                    f"{found['step MB']:.0f}",
                ]
            )
    header = ["encoder", "side", "parameters, M (encoder + decoder)", "step, ms [range]", "prediction, ms", "step, MB"]
    print(table([header, *rows]))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
