"""The training loop on a toy: what it says, what it keeps, and what λ does to the encoder."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.events import Control, Evaluated, Noted, Stepped
from napari_tlseg.learn.anchor import Anchor, AnchoredAdam
from napari_tlseg.learn.average import KEEP, Average
from napari_tlseg.learn.fit import Schedule, evaluate, fit
from napari_tlseg.learn.objectives import Localize, Segment
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.checkpoint import digest
from napari_tlseg.nets.encoders import Encoder, PlainBody
from napari_tlseg.nets.heads import Localizer
from napari_tlseg.nets.unet import UNet

SIZE, RATE = 32, 1e-2
STRENGTHS = [0.0, 1e-3, 1.0, math.inf]
KINDS = ("Stepped", "Evaluated")


def sample(number, size=SIZE):
    rng = np.random.default_rng(number)
    rows, columns = np.indices((size, size))
    y, x = rng.uniform(10, 22, 2)
    disc = (rows - y) ** 2 + (columns - x) ** 2 < 36
    image = np.clip(0.3 + 0.5 * disc + rng.normal(0, 0.05, disc.shape), 0, 1).astype(np.float32)
    frame = Letterbox((size, size), size)
    return Sample(case=str(number), image=image[None], frame=frame, labels=disc.astype(np.uint8), point=(y, x))


SAMPLES = [sample(number) for number in range(6)]


class Scripted(Segment):
    """Learns as usual, and says of the validation cases what it was told; None: nothing."""

    def __init__(self, scores, sign=1):
        super().__init__(SAMPLES[:4], SAMPLES[4:], Augment(), 2, 2, "dice")
        self.scores, self.sign, self.digests = list(scores), sign, []

    def evaluate(self, model, samples, control=None):
        assert [each.case for each in samples] == ["4", "5"]
        assert not model.training
        self.digests.append(digest(model.state_dict()))
        score = self.scores.pop(0)
        return {} if score is None else {"dice": score}


def toy(seed=1):
    torch.manual_seed(seed)
    return UNet(Encoder("unet", PlainBody(1, widths=(4, 8, 8)), 1, (0.5,), (0.25,)), 2)


def objective(batch=2):
    return Segment(SAMPLES[:4], SAMPLES[4:], Augment(), batch, 2, "dice")


def setting(strength=None, solver="stable"):
    """A model, its anchor (with a strength), and an optimizer."""
    model = toy()
    if strength is None:
        return model, None, torch.optim.Adam(model.parameters(), RATE, fused=True)
    anchor = Anchor(model.encoder, strength)
    return model, anchor, AnchoredAdam(model.parameters(), RATE, anchor=anchor, solver=solver, fused=True)


def train(strength=None, steps=6, scores=None, every=2, patience=0, **options):
    """The model, its anchor, the objective, and all events of a training."""
    model, anchor, optimizer = setting(strength)
    task = objective() if scores is None else Scripted(scores)
    schedule = Schedule(steps=steps, evaluate_every=every, patience=patience, warm_up=2)
    events = list(fit(model, task, optimizer, schedule, anchor=anchor, **options))
    return model, anchor, task, events


def encoder_state(model):
    return {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}


def parts(before, after):
    """(whether every parameter, whether every running statistic) is bit for bit as it was."""
    running = {name for name in before if "running" in name or "num_batches" in name}
    assert running and running != set(before)
    same = {name: torch.equal(before[name], after[name]) for name in before}
    return all(same[name] for name in set(same) - running), all(same[name] for name in running)


def test_events_come_in_order():
    *_, events = train(steps=5)
    kinds = [(type(event).__name__, event.step) for event in events]
    assert kinds == [(kind, step) for step in range(1, 6) for kind in KINDS[: 2 if step in (2, 4, 5) else 1]]
    assert all(math.isfinite(event.loss) and event.strength is None for event in events if isinstance(event, Stepped))
    assert all(event.drift is None for event in events if isinstance(event, Evaluated))


def test_a_toy_is_learned():
    model, *_, events = train(steps=150, every=75)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert evaluate(model, objective(), SAMPLES[4:], torch.float32)["dice"] > 0.9


def test_a_localizer_is_trained_by_the_same_loop():
    torch.manual_seed(0)
    model = Localizer(Encoder("unet", PlainBody(1, widths=(4, 8, 8)), 1, (0.5,), (0.25,)), SIZE)
    task = Localize(SAMPLES, SAMPLES, Augment(rotate=0, zoom=0, shift=0), 6)
    before = evaluate(model, task, SAMPLES, torch.float32)["error"]
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3)
    events = list(fit(model, task, optimizer, Schedule(steps=200, evaluate_every=50)))
    errors = [event.scores["error"] for event in events if isinstance(event, Evaluated)]
    kept = evaluate(model, task, SAMPLES, torch.float32)["error"]
    assert kept == pytest.approx(errors[-1], rel=1e-5)
    assert kept < before / 2


@pytest.mark.parametrize(("sign", "best"), [(1, 1), (-1, 0)])
def test_the_best_weights_on_validation_cases_are_kept_where_it_ends_early(sign, best):
    model, _, optimizer = setting()
    task = Scripted([0.2, 0.9, 0.4], sign)
    events = list(fit(model, task, optimizer, Schedule(steps=50, evaluate_every=2, patience=2 - best)))
    kept = [event.kept for event in events if isinstance(event, Evaluated)]
    assert kept == ([True, True, False] if best else [True, False, False])
    assert digest(model.state_dict()) == task.digests[best]
    assert not model.training


def test_the_last_weights_are_kept_where_it_comes_to_its_end():
    model, _, optimizer = setting()
    task = Scripted([0.2, 0.9, 0.4])
    events = list(fit(model, task, optimizer, Schedule(steps=6, evaluate_every=2)))
    assert [event.kept for event in events if isinstance(event, Evaluated)] == [True, True, True]
    assert len(set(task.digests)) == 3
    assert digest(model.state_dict()) == task.digests[2]
    assert not model.training


def test_without_anything_to_judge_by_the_last_weights_are_kept():
    model, _, task, events = train(scores=[None, None, None], patience=1)
    assert [event.kept for event in events if isinstance(event, Evaluated)] == [False] * 3
    assert digest(model.state_dict()) == task.digests[-1]


def test_patience_ends_it_early():
    model, _, task, events = train(steps=20, scores=[0.5, 0.6, 0.6, 0.1, 0.9], patience=2)
    assert events[-1].step == 8
    assert digest(model.state_dict()) == task.digests[1]
    assert train(steps=20, scores=[0.5, 0.6, 0.6, 0.7, *[0.1] * 6], patience=2)[-1][-1].step == 12


@pytest.mark.parametrize("norm", ["source", "target"])
def test_at_infinity_the_encoder_is_the_sources_bit_for_bit(norm):
    before, start = encoder_state(toy()), digest(toy().decoder.state_dict())
    model, anchor, _, events = train(math.inf, norm=norm)
    assert parts(before, model.encoder.state_dict()) == (True, True)
    assert digest(model.encoder.state_dict()) == digest(before)
    assert digest(model.decoder.state_dict()) != start
    assert (anchor.drift(), anchor.distance()) == (0, 0)
    assert [event.drift for event in events if isinstance(event, Evaluated)] == [0, 0, 0]


@pytest.mark.parametrize("norm", ["source", "target"])
def test_infinity_reached_on_the_way_brings_the_encoder_back(norm):
    before, control = encoder_state(toy()), Control()
    model, anchor, optimizer = setting(1e-3)
    for event in fit(model, objective(), optimizer, Schedule(steps=8), anchor=anchor, norm=norm, control=control):
        if isinstance(event, Stepped):
            frozen = event.step > 4
            assert event.strength == (math.inf if frozen else 1e-3)
            assert parts(before, model.encoder.state_dict()) == (frozen, frozen or norm == "source")
            control.strength = math.inf if event.step >= 4 else None
    assert parts(before, model.encoder.state_dict()) == (True, True)


@pytest.mark.parametrize("norm", ["source", "target"])
def test_back_from_infinity_the_encoder_learns_again(norm):
    before, control = encoder_state(toy()), Control()
    model, anchor, optimizer = setting(math.inf)
    for event in fit(model, objective(), optimizer, Schedule(steps=6), anchor=anchor, norm=norm, control=control):
        if isinstance(event, Stepped) and event.step == 3:
            assert parts(before, model.encoder.state_dict()) == (True, True)
            control.strength = 0.0
    assert parts(before, model.encoder.state_dict()) == (False, norm == "source")
    assert anchor.drift() > 0


def test_at_zero_it_is_plain_adam_bit_for_bit():
    plain, *_ = train(None)
    anchored, anchor, *_ = train(0.0, norm="target")
    assert digest(anchored.state_dict()) == digest(plain.state_dict())
    assert anchor.drift() > 0


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("norm", ["source", "target"])
def test_running_statistics_are_the_sources_or_adapt(strength, norm):
    before = encoder_state(toy())
    model, *_ = train(strength, norm=norm)
    weights, statistics = parts(before, model.encoder.state_dict())
    assert weights == math.isinf(strength)
    assert statistics == (norm == "source" or math.isinf(strength))


def test_the_stronger_the_nearer():
    drifts = [train(strength, steps=20)[1].drift() for strength in STRENGTHS]
    assert drifts == sorted(drifts, reverse=True)
    assert drifts[0] > 10 * drifts[2] > 0 == drifts[3]


def test_a_new_strength_counts_from_the_next_step_and_starts_the_search_anew():
    model, anchor, optimizer = setting(1.0)
    control, task, strengths, best = Control(), Scripted([0.9, 0.8, 0.1, 0.3, 0.2]), [], []
    for event in fit(model, task, optimizer, Schedule(steps=10, evaluate_every=2), anchor=anchor, control=control):
        if isinstance(event, Stepped):
            strengths.append(event.strength)
            if event.step == 5:
                control.strength = 1e-4
        else:
            best.append(event.kept)
    assert strengths == [1.0] * 5 + [1e-4] * 5
    assert best == [True, False, True, True, True]
    assert digest(model.state_dict()) == task.digests[4]


def test_after_a_new_strength_the_weights_of_the_old_one_are_no_answer():
    model, anchor, optimizer = setting(1.0)
    control, task = Control(), Scripted([0.9])
    last = ""
    for event in fit(model, task, optimizer, Schedule(steps=10, evaluate_every=2), anchor=anchor, control=control):
        if isinstance(event, Evaluated):
            control.strength = 0.0
        elif event.step == 3:
            control.stop, last = True, digest(model.state_dict())
    assert digest(model.state_dict()) == last != task.digests[0]


def test_stopping_ends_within_one_step_and_keeps_the_best():
    model, _, optimizer = setting()
    control, task, steps = Control(), Scripted([0.9, 0.1]), []
    for event in fit(model, task, optimizer, Schedule(steps=50, evaluate_every=2), control=control):
        steps.append(event.step)
        control.stop = event.step == 5
    assert steps == [1, 2, 2, 3, 4, 4, 5]
    assert digest(model.state_dict()) == task.digests[0]


@pytest.mark.parametrize("ends", [6, 3])
def test_a_training_leaves_the_optimizer_its_learning_rate(ends):
    """Also one that is closed on the way: the next with the same optimizer would begin at the end of the cosine."""
    model, _, optimizer = setting()
    before = [group["lr"] for group in optimizer.param_groups]
    events = fit(model, objective(), optimizer, Schedule(steps=6, evaluate_every=6))
    for event in events:
        if event.step == ends:
            assert [group["lr"] for group in optimizer.param_groups] != before, "the schedule is at work"
            break
    events.close()
    assert [group["lr"] for group in optimizer.param_groups] == before


def test_closing_it_keeps_the_best():
    model, anchor, optimizer = setting(1e-3)
    task = Scripted([0.9, 0.1])
    events = fit(model, task, optimizer, Schedule(steps=50, evaluate_every=2), anchor=anchor)
    assert [next(events).step for _ in range(7)] == [1, 2, 2, 3, 4, 4, 5]
    assert digest(model.state_dict()) != task.digests[0]
    events.close()
    assert digest(model.state_dict()) == task.digests[0]
    assert not model.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_mode_of_torch_leaks_to_the_one_who_listens(precision):
    model, _, optimizer = setting()
    for _ in fit(model, objective(), optimizer, Schedule(steps=3, evaluate_every=1), precision=precision):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu")
        assert (torch.ones(1, requires_grad=True) * 2).requires_grad
    assert not any(tensor.is_inference() for tensor in model.state_dict().values())


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (digest(train(1e-3, seed=seed)[0].state_dict()) for seed in (3, 3, 4))
    assert first == second != other


def test_bfloat16_learns_with_weights_in_float32():
    model, *_, events = train(1e-3, steps=40, every=20, precision=torch.bfloat16)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert 0 <= events[-1].scores["dice"] <= 1


def test_the_rate_warms_up_and_falls_to_nothing():
    schedule = Schedule(steps=100, warm_up=10)
    rates = [schedule.rate(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates)
    assert rates[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.09)))
    assert rates[50] == pytest.approx(0.5, abs=0.02)
    assert all(rate > 0 for rate in rates)
    assert rates[-1] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_rate_of_each_step_is_the_schedules():
    model, _, optimizer = setting()
    schedule = replace(Schedule(steps=6), warm_up=3)
    for event in fit(model, Scripted([None]), optimizer, schedule):
        if isinstance(event, Stepped):
            assert optimizer.param_groups[0]["lr"] == pytest.approx(RATE * schedule.rate(event.step))


@pytest.mark.parametrize(
    ("wish", "solver", "said"),
    [
        (math.nan, "stable", "λ = nan cannot be, it must be 0 or more; it stays at 0.001."),
        (-1.0, "stable", "λ = -1 cannot be, it must be 0 or more; it stays at 0.001."),
        (math.inf, "paper", "λ = inf cannot be, it must be finite with the solver paper; it stays at 0.001."),
    ],
)
def test_a_strength_that_cannot_be_is_passed_over_and_said_once(wish, solver, said):
    model, anchor, optimizer = setting(1e-3, solver)
    control, schedule = Control(), Schedule(steps=6, evaluate_every=2)
    events = []
    for event in fit(model, Scripted([0.9, 0.1, 0.2]), optimizer, schedule, anchor=anchor, control=control):
        events.append(event)
        control.strength = wish
    assert [event.text for event in events if isinstance(event, Noted)] == [said]
    assert [event.strength for event in events if isinstance(event, Stepped)] == [1e-3] * 6
    assert [event.kept for event in events if isinstance(event, Evaluated)] == [True, False, True]


def test_after_a_strength_that_cannot_be_another_is_heard():
    model, anchor, optimizer = setting(1e-3)
    control, strengths = Control(strength=-1.0), []
    for event in fit(model, objective(), optimizer, Schedule(steps=4), anchor=anchor, control=control):
        if isinstance(event, Stepped):
            strengths.append(event.strength)
            control.strength = 0.5 if event.step == 2 else control.strength
    assert strengths == [1e-3, 1e-3, 0.5, 0.5]


def test_the_encoder_can_learn_again_after_infinity():
    model, *_ = train(math.inf)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_stop_during_a_look_makes_it_count_for_nothing():
    control = Control()

    class Stopping(Scripted):
        def evaluate(self, model, samples, control):
            control.stop = len(self.scores) == 1
            return super().evaluate(model, samples)

    model, _, optimizer = setting()
    task = Stopping([0.5, 0.9])
    events = list(fit(model, task, optimizer, Schedule(steps=50, evaluate_every=2), control=control))
    assert [(type(event), event.step) for event in events[-3:]] == [(Evaluated, 2), (Stepped, 3), (Stepped, 4)]
    assert digest(model.state_dict()) == task.digests[0]


@pytest.mark.parametrize("steps", [3, 30])
def test_with_an_average_the_model_ends_with_the_mean_and_can_go_on_from_its_weights(steps):
    """M ← m + (θ − m) · max(1 / t, 1 − KEEP): the plain mean while there are few steps, then an exponential one."""
    model, anchor, optimizer = setting(1e-3)
    average, expected, live = Average(), 0.0, None
    schedule = Schedule(steps=steps, evaluate_every=2, warm_up=1, high=0.5, low=0.5)
    for event in fit(model, objective(), optimizer, schedule, anchor=anchor, average=average):
        if isinstance(event, Stepped):
            live = next(model.parameters()).detach().clone()
            expected = expected + (live - expected) * max(1 / event.step, 1 - KEEP)
    torch.testing.assert_close(next(model.parameters()).detach(), expected)
    assert not torch.equal(expected, live)
    average.swap(model)
    assert torch.equal(next(model.parameters()), live)


def test_an_average_leaves_a_frozen_encoder_bit_for_bit():
    model, anchor, optimizer = setting(math.inf)
    before = encoder_state(model)
    list(fit(model, objective(), optimizer, Schedule(steps=12), anchor=anchor, average=Average()))
    assert parts(before, encoder_state(model)) == (True, True)


def test_the_rate_falls_from_high_to_low():
    schedule = Schedule(steps=100, warm_up=1, high=0.8, low=0.2)
    assert schedule.rate(1) == pytest.approx(0.8) and schedule.rate(51) == pytest.approx(0.5)
    assert schedule.rate(101) == pytest.approx(0.2)
    assert {Schedule(steps=9, warm_up=1, high=0.3, low=0.3).rate(step) for step in range(1, 10)} == {0.3}
