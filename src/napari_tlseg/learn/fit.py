"""The only training loop: a generator of events, stopped by no longer asking it for more."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_tlseg.events import Control, Evaluated, Event, Noted, Stepped
from napari_tlseg.learn.anchor import Anchor
from napari_tlseg.learn.average import Average
from napari_tlseg.learn.device import autocast, move
from napari_tlseg.learn.objectives import Objective
from napari_tlseg.learn.samples import Sample
from napari_tlseg.options import Norm


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long, how fast, and when to look."""

    steps: int
    evaluate_every: int = 25
    patience: int = 0
    """End after so many evaluations without a better score; 0 for never."""
    warm_up: int = 20
    high: float = 1.0
    low: float = 0.0
    """Factors on the learning rate at the beginning and at the end."""

    def rate(self, step: int) -> float:
        """Factor on the learning rate at `step` (1 is the first): linear warm-up, then a cosine from high to low."""
        rest = (step - 1) / max(1, self.steps)
        fallen = 0.5 * (1 - math.cos(math.pi * rest))
        return min(1.0, step / self.warm_up) * (self.high + (self.low - self.high) * fallen)


def fit(
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    anchor: Anchor | None = None,
    norm: Norm = "target",
    precision: torch.dtype = torch.float32,
    seed: int = 0,
    control: Control | None = None,
    average: Average | None = None,
) -> Generator[Event, None, None]:
    """Train `model` in place and say so after every step.

    At its end the model holds the last weights: the rate has come down to 0, and the best of many looks at few
    validation cases is a matter of luck. Where it ends on the way, by a stop or for want of patience, it holds the best
    on validation cases, or the last where there was nothing to judge by. λ may move while it runs
    (`control.strength`); that starts the search for the best anew, as weights of another λ are not an answer to this
    one. A λ that cannot be is passed over, and that is noted.

    With an `average` it is the mean of the weights that is looked at, and that the model holds at the end; the weights
    themselves are then in the average, to go on from (`average.swap`).
    """
    control = control or Control()
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    device = next(model.parameters()).device
    rates = [group["lr"] for group in optimizer.param_groups]
    best = _Best(objective.sign)
    refused: set[float] = set()
    adapt(model, anchor, norm)
    try:
        for step in range(1, schedule.steps + 1):
            wish = control.strength
            if anchor is not None and wish is not None and wish not in {anchor.strength, *refused}:
                if demand := _demand(wish, optimizer):
                    refused.add(wish)
                    yield Noted(text=f"λ = {wish:g} cannot be, it must be {demand}; it stays at {anchor.strength:g}.")
                else:
                    anchor.strength = wish
                    best = _Best(objective.sign)
                    adapt(model, anchor, norm)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule.rate(step)
            images, target = objective.batch(rng)
            batch = (move(images, device), target.to(device))
            with autocast(device, precision):
                loss = objective.loss(model, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if average is not None:
                average.add(model)
            yield Stepped(step=step, loss=loss.item(), strength=anchor.strength if anchor else None)
            if step % schedule.evaluate_every == 0 or step == schedule.steps:
                if average is not None:
                    average.swap(model)
                scores = evaluate(model, objective, objective.validation, precision, control)
                if control.stop:  # an interrupted look counts for nothing
                    return
                if step == schedule.steps:
                    best = _Best(objective.sign)
                kept = best.offer(model, scores.get(objective.leading))
                drift = _drift(anchor)
                if average is not None and step < schedule.steps:
                    average.swap(model)
                adapt(model, anchor, norm)
                yield Evaluated(step=step, scores=scores, kept=kept, **drift)
                if schedule.patience and best.waited >= schedule.patience:
                    return
            if control.stop:
                return
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        best.restore(model)
        model.eval()
        if anchor is not None:
            anchor.encoder.requires_grad_(True)


def adapt(model: nn.Module, anchor: Anchor | None, norm: Norm) -> None:
    """Put the model into training: at λ = ∞ the encoder is the source's, weights and statistics, and stands still,
    but for what the anchor leaves free.

    Elsewhere its batch-norm statistics and dropout are the source's (`norm="source"`) or adapt (`norm="target"`).
    """
    model.train()
    if anchor is None:
        return
    frozen = math.isinf(anchor.strength)
    if frozen:
        anchor.restore()
    for parameter, weight in zip(anchor.parameters, anchor.weights, strict=True):
        parameter.requires_grad_(not (frozen and weight))
    anchor.encoder.train(norm == "target" and not frozen)
    for module in anchor.free() if frozen else ():
        module.train(norm == "target")
    for module in anchor.drawn():
        module.train()


def _drift(anchor: Anchor | None) -> dict[str, Any]:
    return {} if anchor is None else {"drift": anchor.drift(), "drifts": anchor.drifts()}


def _demand(strength: float, optimizer: torch.optim.Optimizer) -> str:
    """What λ must be and this one is not; empty where it can be used."""
    if not strength >= 0:  # nor is NaN
        return "0 or more"
    frozen = math.isinf(strength)
    return "finite with the solver paper" if frozen and getattr(optimizer, "solver", "") == "paper" else ""


def evaluate(
    model: nn.Module,
    objective: Objective,
    samples: Sequence[Sample],
    precision: torch.dtype,
    control: Control | None = None,
) -> dict[str, float]:
    """The objective's scores on samples, incomplete after a stop; leaves the model in evaluation mode."""
    model.eval()
    with torch.inference_mode(), autocast(next(model.parameters()).device, precision):
        return dict(objective.evaluate(model, samples, control))


class _Best:
    """The weights that scored best."""

    def __init__(self, sign: int) -> None:
        self._sign, self._score, self.waited = sign, -math.inf, 0
        self._weights: dict[str, Tensor] | None = None

    def offer(self, model: nn.Module, score: float | None) -> bool:
        """Keep a copy of the weights if their score is better than all before."""
        if score is None:
            return False
        better = self._sign * score > self._score
        self.waited = 0 if better else self.waited + 1
        if better:
            self._score, self._weights = self._sign * score, copy.deepcopy(model.state_dict())
        return better

    def restore(self, model: nn.Module) -> None:
        if self._weights is not None:
            model.load_state_dict(self._weights)
