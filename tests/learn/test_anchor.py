"""The anchored cost, and that both solvers minimise it and nothing else."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from napari_tlseg.learn.anchor import SERIAL, Anchor, AnchoredAdam

FLAGS = [{}, {"foreach": True}, {"fused": True}, {"fused": True, "amsgrad": True}, {"fused": True, "weight_decay": 0.1}]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


class Net(nn.Module):
    """Encoder with batch-norm and one tensor long enough to be cut into pieces; a decoder."""

    def __init__(self) -> None:
        super().__init__()
        wide = SERIAL // 9 // 8 + 8
        layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, wide, 3), nn.BatchNorm2d(wide)]
        self.encoder = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(wide, 8, 1))
        self.decoder = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def make_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def losses(net: Net, steps: int) -> Iterator[Tensor]:
    """A loss per step, the same ones for every net, on its device and in its dtype."""
    rng = torch.Generator().manual_seed(1)
    like = next(net.parameters())
    for _ in range(steps):
        x = torch.randn(2, 1, 10, 10, generator=rng)
        target = (x[:, :, 2:-2, 2:-2] > 0).float()
        yield F.binary_cross_entropy_with_logits(net(x.to(like)), target.to(like))


def train(net: Net, optimizer: torch.optim.Optimizer, steps: int = 20, penalty: Any = lambda: 0) -> None:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        for loss in losses(net, steps):
            optimizer.zero_grad()
            (loss + penalty()).backward()
            optimizer.step()


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def move(module: nn.Module, by: float = 0.1) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by)


# --- the cost


def test_the_penalty_is_lambda_times_the_sum_of_squares() -> None:
    net = make_net()
    anchor = Anchor(net.encoder, 3.0)
    assert anchor.penalty().item() == 0
    move(net, 0.5)
    count = sum(p.numel() for p in net.encoder.parameters())
    assert anchor.penalty().shape == ()
    assert anchor.penalty().item() == pytest.approx(3 * 0.25 * count, rel=1e-5)
    assert anchor.distance() == pytest.approx(0.5 * math.sqrt(count), rel=1e-5)


@pytest.mark.parametrize("moved", [False, True])
def test_the_penalty_has_the_gradient_two_lambda_times_the_distance(moved: bool) -> None:
    net = make_net()
    anchor = Anchor(net.encoder, 3.0)
    if moved:
        move(net, 0.5)
    anchor.penalty().backward()
    assert all(torch.allclose(p.grad, torch.full_like(p, 3.0 * moved)) for p in net.encoder.parameters())
    assert all(p.grad is None for p in net.decoder.parameters())


@pytest.mark.parametrize(("strength", "when_moved"), [(0, 0.0), (math.inf, math.inf)])
def test_the_penalty_at_both_ends(strength: float, when_moved: float) -> None:
    net = make_net()
    anchor = Anchor(net.encoder, strength)
    (loss := anchor.penalty()).backward()
    assert loss.item() == 0
    move(net)
    assert anchor.penalty().item() == when_moved
    assert all(p.grad.count_nonzero() == 0 for p in net.encoder.parameters())


def test_the_anchor_does_not_follow_the_weights() -> None:
    net = make_net()
    before = copy.deepcopy(net.encoder)
    anchor = Anchor(net.encoder)
    move(net)
    assert all(map(torch.equal, anchor.reference, before.parameters()))
    assert anchor.penalty() > 0


@pytest.mark.parametrize("strength", [-1, -1e-30, math.nan, -math.inf])
def test_a_strength_outside_its_range_is_refused(strength: float) -> None:
    anchor = Anchor(make_net().encoder)
    with pytest.raises(ValueError, match="λ must lie between 0 and ∞"):
        anchor.strength = strength
    with pytest.raises(ValueError):
        Anchor(make_net().encoder, strength)
    assert anchor.strength == 1.0


def test_an_encoder_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameters"):
        Anchor(nn.ReLU())


def test_drift_is_relative_to_the_size_of_the_source() -> None:
    encoder = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[3.0, 4.0]]))
    anchor = Anchor(encoder)
    assert anchor.drift() == 0
    with torch.no_grad():
        encoder.weight.mul_(1.5)
    assert anchor.drift() == pytest.approx(0.5)
    nn.init.zeros_(encoder.weight)
    nothing = Anchor(encoder)
    assert nothing.drift() == 0
    move(encoder)
    assert nothing.drift() == math.inf


def test_drift_by_part_is_that_of_each_part_alone() -> None:
    net = make_net()
    count = len(list(net.encoder.parameters()))
    groups = [number * 2 // count for number in range(count)]
    anchor, parts = Anchor(net.encoder), [nn.ParameterList(), nn.ParameterList()]
    for group, parameter in zip(groups, net.encoder.parameters(), strict=True):
        parts[group].append(parameter)
    alone = [Anchor(part) for part in parts]
    with torch.no_grad():
        for number, parameter in enumerate(net.encoder.parameters()):
            parameter.add_(0.1 * (number + 1))
    assert anchor.drifts() == pytest.approx([anchor.drift()], rel=1e-5)
    net.encoder.stages = groups
    assert anchor.drifts() == pytest.approx([part.drift() for part in alone], rel=1e-5)


# --- weights: λ that differs over the encoder


def falling(encoder: nn.Module) -> list[float]:
    """One weight per parameter: 2 for the first half of them, 0 for the last one, 0.5 between."""
    count = len(list(encoder.parameters()))
    return [2.0 if n < count // 2 else 0.0 if n == count - 1 else 0.5 for n in range(count)]


def test_the_weighted_penalty_is_the_sum_over_parameters_of_weight_times_squares() -> None:
    net = make_net()
    weights = falling(net.encoder)
    anchor = Anchor(net.encoder, 3.0, weights)
    move(net, 0.5)
    expected = sum(w * 0.25 * p.numel() for w, p in zip(weights, net.encoder.parameters(), strict=True))
    assert anchor.penalty().item() == pytest.approx(3 * expected, rel=1e-5)


@pytest.mark.parametrize("solver", ["stable", "paper"])
def test_weights_of_one_number_are_that_many_times_the_strength(solver: str) -> None:
    one, other = make_net(), make_net()
    count = len(list(one.encoder.parameters()))
    for net, anchor in ((one, Anchor(one.encoder, 0.6)), (other, Anchor(other.encoder, 0.3, [2.0] * count))):
        train(net, AnchoredAdam(net.parameters(), 1e-2, anchor=anchor, solver=solver))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("solver", ["stable", "paper"])
def test_each_parameter_is_held_as_by_an_anchor_of_its_own_strength(solver: str) -> None:
    """Against optimizers that each own one parameter of the encoder, given the same gradients."""
    net, weights = make_net(), falling(make_net().encoder)
    ours = AnchoredAdam(net.parameters(), 1e-2, anchor=Anchor(net.encoder, 0.5, weights), solver=solver)
    parts = [nn.ParameterList([p.detach().clone()]) for p in net.encoder.parameters()]
    theirs = [
        AnchoredAdam(part.parameters(), 1e-2, anchor=Anchor(part, 0.5 * w), solver=solver)
        for part, w in zip(parts, weights, strict=True)
    ]
    for loss in losses(net, 5):
        ours.zero_grad()
        loss.backward()
        for part, p in zip(parts, net.encoder.parameters(), strict=True):
            part[0].grad = p.grad.clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
        for part, p in zip(parts, net.encoder.parameters(), strict=True):
            torch.testing.assert_close(part[0], p, rtol=1e-5, atol=1e-7)
            p.data.copy_(part[0].data)


def test_at_infinity_only_what_has_no_weight_moves() -> None:
    net, before = make_net(), make_net()
    train(net, AnchoredAdam(net.parameters(), 1e-2, anchor=Anchor(net.encoder, math.inf, falling(net.encoder))))
    same = [torch.equal(a, b) for a, b in zip(net.encoder.parameters(), before.encoder.parameters(), strict=True)]
    assert all(same[:-1]) and not same[-1]


def test_restore_leaves_what_is_free() -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    before = copy.deepcopy(encoder)
    anchor = Anchor(encoder, math.inf, [1, 1, 1, 1, 0, 0, 0, 0])
    assert list(anchor.free()) == [encoder[2], encoder[3]]
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            tensor.add_(1)
    anchor.restore()
    kept = {name: torch.equal(t, before.state_dict()[name]) for name, t in encoder.state_dict().items()}
    assert {name[0] for name, is_source in kept.items() if is_source} == {"0", "1"}
    assert {name[0] for name, is_source in kept.items() if not is_source} == {"2", "3"}


@pytest.mark.parametrize("weights", [[1.0], [-1.0] * 100, [math.nan] * 100, [math.inf] * 100])
def test_weights_that_cannot_be_are_refused(weights: list[float]) -> None:
    encoder = make_net().encoder
    count = len(list(encoder.parameters()))
    with pytest.raises(ValueError, match="one weight per parameter"):
        Anchor(encoder, 1.0, weights if len(weights) == 1 else weights[:count])


def test_restore_returns_parameters_and_buffers_exactly() -> None:
    net = make_net()
    train(net, torch.optim.Adam(net.parameters()), steps=2)
    before, anchor = copy.deepcopy(net), Anchor(net.encoder)
    train(net, torch.optim.Adam(net.parameters()), steps=2)
    assert not torch.equal(net.encoder[1].running_mean, before.encoder[1].running_mean)
    assert not torch.equal(net.encoder[1].num_batches_tracked, before.encoder[1].num_batches_tracked)
    anchor.restore()
    assert same(net.encoder, before.encoder)
    assert not same(net.decoder, before.decoder)


def test_the_reference_follows_the_encoder_and_loses_nothing() -> None:
    net = make_net()
    before, anchor = copy.deepcopy(net), Anchor(net.encoder)
    net.to(torch.bfloat16, memory_format=torch.channels_last)
    assert [r.dtype for r in anchor.reference] == [torch.bfloat16] * len(anchor.reference)
    assert [r.stride() for r in anchor.reference] == [p.stride() for p in net.encoder.parameters()]
    assert anchor.distance() == 0
    net.float()
    assert anchor.distance() > 0
    anchor.restore()
    assert same(net.encoder, before.encoder)


# --- the minimum


def quadratic(strength: float, solver: str, steps: int, **adam: Any) -> float:
    """Largest error in a coordinate, relative to |θ* − θ̄|, after Adam with a cosine rate from 0.03 down."""
    rng = torch.Generator().manual_seed(0)
    h = torch.logspace(-3, 2, 26, dtype=torch.float64)
    source, target, start = torch.randn(3, 26, generator=rng, dtype=torch.float64)
    encoder = nn.Linear(26, 1, bias=False).double()
    with torch.no_grad():
        encoder.weight.copy_(source)
        anchor = Anchor(encoder, strength)
        encoder.weight.copy_(start)
    optimizer = AnchoredAdam(encoder.parameters(), lr=0.03, anchor=anchor, solver=solver, fused=True, **adam)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        encoder.weight.grad = h * (encoder.weight.detach() - target)
        optimizer.step()
        schedule.step()
    best = (h * target + 2 * strength * source) / (h + 2 * strength)
    return ((encoder.weight.detach() - best).abs() / (best - source).abs()).max().item()


@pytest.mark.parametrize("strength", [1, 8, 50, 200, 1e4])
def test_stable_ends_at_the_minimum_of_an_ill_conditioned_quadratic(strength: float) -> None:
    assert quadratic(strength, "stable", steps=2000) < 1e-4


@pytest.mark.parametrize("strength", [1, 8, 50])
def test_paper_ends_at_the_minimum_of_an_ill_conditioned_quadratic(strength: float) -> None:
    assert quadratic(strength, "paper", steps=2000) < 1e-4


def test_stable_with_amsgrad_ends_at_the_same_minimum() -> None:
    assert quadratic(8, "stable", steps=4000, amsgrad=True) < 1e-4


@pytest.mark.parametrize("solver", ["stable", "paper"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_both_solvers_find_the_minimum_that_scipy_finds(solver: str, weight_decay: float) -> None:
    rng = np.random.default_rng(0)
    x, source = rng.normal(size=(60, 5)), rng.normal(size=5)
    y = np.where(x @ rng.normal(size=5) + rng.normal(size=60) > 0, 1.0, -1.0)

    def cost(theta: np.ndarray) -> float:
        fit = np.logaddexp(0, -y * (x @ theta)).mean()
        return float(fit + weight_decay / 2 * theta @ theta + 0.05 * ((theta - source) ** 2).sum())

    expected = scipy.optimize.minimize(cost, source, method="BFGS", options={"gtol": 1e-9}).x
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(source))
    anchor = Anchor(model, 0.05)
    optimizer = AnchoredAdam(
        model.parameters(), lr=0.05, anchor=anchor, solver=solver, weight_decay=weight_decay, foreach=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(3000):
        optimizer.zero_grad()
        F.softplus(-labels * model(inputs)[:, 0]).mean().backward()
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(model.weight.detach().numpy()[0], expected, atol=1e-6)


# --- the solver `stable`


def naive_steps(net: Net, strength: float, steps: int, lr: dict[str, float], amsgrad: bool, skip: int) -> None:
    """Adam and the proximal step as the equations have them; the first parameter has no gradient in step `skip`."""
    kept = {name: p.detach().clone() for name, p in net.encoder.named_parameters(prefix="encoder")}
    m, v, top, t = ({name: torch.zeros_like(p) for name, p in net.named_parameters()} for _ in range(4))
    for number, loss in enumerate(losses(net, steps)):
        net.zero_grad()
        loss.backward()
        for name, p in net.named_parameters():
            if number == skip and name == "encoder.0.weight":
                continue
            t[name] += 1
            m[name] = 0.9 * m[name] + 0.1 * p.grad
            v[name] = 0.999 * v[name] + 0.001 * p.grad**2
            top[name] = torch.maximum(top[name], v[name])
            rate = lr[name.split(".")[0]]
            d = ((top if amsgrad else v)[name] / (1 - 0.999 ** t[name])).sqrt() + 1e-8
            q = p.detach() - rate * m[name] / (1 - 0.9 ** t[name]) / d
            c = 2 * rate * strength
            p.data = (d * q + c * kept[name]) / (d + c) if name in kept else q


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"fused": True}, {"fused": True, "amsgrad": True}])
@pytest.mark.parametrize("strength", [1e-3, 0.1, 10])
def test_stable_is_the_proximal_step_in_the_metric_of_adam(
    strength: float, flags: dict[str, bool], device: str
) -> None:
    ours, naive = make_net().double().to(device), make_net().double().to(device)
    lr = {"encoder": 1e-3, "decoder": 1e-2}
    groups = [{"params": getattr(ours, name).parameters(), "lr": rate} for name, rate in lr.items()]
    optimizer = AnchoredAdam(groups, anchor=Anchor(ours.encoder, strength), **flags)
    for number, loss in enumerate(losses(ours, 6)):
        optimizer.zero_grad()
        loss.backward()
        if number == 3:
            ours.encoder[0].weight.grad = None
        optimizer.step()
    naive_steps(naive, strength, 6, lr, flags.get("amsgrad", False), skip=3)
    for a, b in zip(ours.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_tensor_learning_rates_and_channels_last_give_the_same_steps() -> None:
    plain, other = make_net(), make_net()
    anchor = Anchor(other.encoder)  # before the weights change their memory format
    other.to(memory_format=torch.channels_last)
    train(plain, AnchoredAdam(plain.parameters(), 1e-3, anchor=Anchor(plain.encoder), fused=True), steps=4)
    optimizer = AnchoredAdam(other.parameters(), torch.tensor(1e-3), anchor=anchor, fused=True)
    train(other, optimizer, steps=4)
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in other.parameters() if p.ndim == 4)
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@settings(max_examples=60)
@given(
    strength=st.one_of(st.floats(0, math.inf), st.sampled_from([5e-324, 1e-30, 1e30, 1e38, 1.7e308, math.inf])),
    gradient=st.sampled_from([0.0, 1e-30, 1.0, 1e3]),
    lr=st.sampled_from([0.0, 1e-8, 1e-3, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_no_strength_makes_a_weight_leave_the_way_to_the_anchor(
    strength: float, gradient: float, lr: float, dtype: torch.dtype
) -> None:
    encoder = nn.Linear(3, 2).to(dtype)
    anchor, adam = Anchor(encoder, strength), copy.deepcopy(encoder)
    for module in (encoder, adam):
        module.weight.grad = torch.full_like(module.weight, gradient)
    AnchoredAdam(encoder.parameters(), lr, anchor=anchor, fused=True).step()
    torch.optim.Adam(adam.parameters(), lr, fused=True).step()
    source = anchor.reference[0]
    low, high = torch.minimum(adam.weight, source), torch.maximum(adam.weight, source)
    assert torch.all((low <= encoder.weight) & (encoder.weight <= high))
    assert lr * strength < 1e25 or torch.equal(encoder.weight, source)


def test_a_huge_strength_is_the_frozen_encoder() -> None:
    net, before = make_net(), make_net()
    train(net, AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder, 1e30), fused=True))
    assert all(map(torch.equal, net.encoder.parameters(), before.encoder.parameters()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("flags", FLAGS)
def test_at_infinity_the_encoder_is_the_source_bit_for_bit(flags: dict[str, Any], device: str) -> None:
    net, before = make_net().to(device), make_net().to(device)
    train(net, AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder, math.inf), **flags))
    assert all(map(torch.equal, net.encoder.parameters(), before.encoder.parameters()))
    assert not torch.equal(net.decoder.weight, before.decoder.weight)


def test_infinity_reached_in_mid_run_returns_every_parameter_exactly() -> None:
    net, before = make_net(), make_net()
    anchor = Anchor(net.encoder, 0.01)
    optimizer = AnchoredAdam(net.parameters(), anchor=anchor)
    train(net, optimizer, steps=5)
    assert anchor.drift() > 0
    anchor.strength = math.inf
    net.encoder[0].weight.requires_grad_(False)  # one without a gradient, too
    train(net, optimizer, steps=1)
    assert all(map(torch.equal, net.encoder.parameters(), before.encoder.parameters()))
    anchor.strength = 0.01
    train(net, optimizer, steps=5)
    assert 0 < anchor.drift() < 1


def test_a_change_of_strength_counts_from_the_next_step() -> None:
    net = make_net()
    anchor = Anchor(net.encoder, 0)
    optimizer = AnchoredAdam(net.parameters(), 1e-2, anchor=anchor, fused=True)
    drifts = []
    for strength in (0, 10, 1e4, 0):
        anchor.strength = strength
        train(net, optimizer, steps=1)
        drifts.append(anchor.drift())
    assert drifts[1] < drifts[0] / 2
    assert drifts[2] < drifts[1] / 100
    assert drifts[3] > drifts[0] / 2


# --- the solver `paper`


def test_paper_gives_the_gradient_of_the_penalty_in_the_loss() -> None:
    ours, autograd = make_net(), make_net()
    anchors = [Anchor(net.encoder, 3.0) for net in (ours, autograd)]
    move(ours)
    move(autograd)
    next(losses(ours, 1)).backward()
    AnchoredAdam(ours.parameters(), anchor=anchors[0], solver="paper").step()
    (next(losses(autograd, 1)) + anchors[1].penalty()).backward()
    for a, b in zip(ours.parameters(), autograd.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strength", [0.01, 1, 50])
def test_paper_takes_the_way_of_the_penalty_in_the_loss(strength: float) -> None:
    ours, autograd = make_net().double(), make_net().double()
    anchor = Anchor(autograd.encoder, strength)
    optimizer = AnchoredAdam(ours.parameters(), anchor=Anchor(ours.encoder, strength), solver="paper")
    train(ours, optimizer)
    train(autograd, torch.optim.Adam(autograd.parameters()), penalty=anchor.penalty)
    for a, b in zip(ours.parameters(), autograd.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_paper_refuses_infinity_at_once_and_later_and_changes_nothing() -> None:
    net = make_net()
    with pytest.raises(ValueError, match="'paper' has no λ = ∞"):
        AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder, math.inf), solver="paper")
    anchor = Anchor(net.encoder)
    optimizer = AnchoredAdam(net.parameters(), anchor=anchor, solver="paper")
    anchor.strength = math.inf
    next(losses(net, 1)).backward()
    before = copy.deepcopy(net)
    with pytest.raises(ValueError, match="use the solver 'stable'"):
        optimizer.step()
    assert same(net, before)


# --- as Adam


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solver", ["stable", "paper"])
@pytest.mark.parametrize("flags", [*FLAGS, {"weight_decay": 0.1, "decoupled_weight_decay": True}])
def test_at_zero_it_is_adam_bit_for_bit(flags: dict[str, Any], solver: str, device: str) -> None:
    ours, theirs = make_net().to(device), make_net().to(device)
    train(ours, AnchoredAdam(ours.parameters(), 1e-3, anchor=Anchor(ours.encoder, 0), solver=solver, **flags))
    train(theirs, torch.optim.Adam(theirs.parameters(), 1e-3, **flags))
    assert same(ours, theirs)


@pytest.mark.parametrize("flags", [{}, {"fused": True}, {"fused": True, "amsgrad": True}])
def test_a_run_resumes_from_a_state_dict(flags: dict[str, Any]) -> None:
    whole, halves = make_net(), make_net()
    source = copy.deepcopy(halves)
    optimizer = AnchoredAdam(whole.parameters(), anchor=Anchor(whole.encoder), **flags)
    train(whole, optimizer, steps=4)
    train(whole, optimizer, steps=4)

    first = AnchoredAdam(halves.parameters(), anchor=Anchor(halves.encoder), **flags)
    train(halves, first, steps=4)
    torch.save(first.state_dict(), file := io.BytesIO())
    file.seek(0)
    resumed = copy.deepcopy(source)
    anchor = Anchor(resumed.encoder)
    resumed.load_state_dict(halves.state_dict())
    second = AnchoredAdam(resumed.parameters(), anchor=anchor, **flags)
    second.load_state_dict(torch.load(file, weights_only=True))
    train(resumed, second, steps=4)
    assert same(whole, resumed)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on_by_themselves(copied: Any) -> None:
    net = make_net()
    optimizer = AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder, 0.1), fused=True)
    train(net, optimizer, steps=3)
    before = copy.deepcopy(net)
    other, its_optimizer = copied((net, optimizer))
    train(other, its_optimizer, steps=3)
    assert same(net, before)
    train(net, optimizer, steps=3)
    assert same(net, other)


def test_parameters_may_move_in_mid_run() -> None:
    still, moving = make_net(), make_net()
    optimizers = [AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder), fused=True) for net in (still, moving)]
    for net, optimizer in zip((still, moving), optimizers, strict=True):
        train(net, optimizer, steps=2)
    for p in moving.parameters():
        p.data = p.data.clone()
    for net, optimizer in zip((still, moving), optimizers, strict=True):
        train(net, optimizer, steps=2)
    assert same(still, moving)


def test_the_second_moments_lie_together_and_stay_there() -> None:
    net = make_net()
    optimizer = AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder), fused=True)
    places = []
    for _ in range(3):
        train(net, optimizer, steps=1)
        places.append([optimizer.state[p]["exp_avg_sq"].untyped_storage().data_ptr() for p in net.encoder.parameters()])
    assert len(set(places[0])) == 1
    assert places[0] == places[1] == places[2]


def test_hooks_and_closure_are_called_once() -> None:
    net, other = make_net(), make_net()
    torch.optim.Adam(other.parameters())  # which puts hooks around Adam's own step
    optimizer = AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder))
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))

    def closure() -> Tensor:
        calls.append("closure")
        optimizer.zero_grad()
        (loss := next(losses(net, 1))).backward()
        return loss

    assert optimizer.step(closure).item() > 0
    assert calls == ["before", "closure", "after"]


@pytest.mark.parametrize("solver", ["stable", "paper"])
def test_a_scaled_loss_gives_the_same_steps(solver: str) -> None:
    plain, scaled = make_net(), make_net()
    train(plain, AnchoredAdam(plain.parameters(), anchor=Anchor(plain.encoder), solver=solver, fused=True), steps=3)
    optimizer = AnchoredAdam(scaled.parameters(), anchor=Anchor(scaled.encoder), solver=solver, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for loss in losses(scaled, 3):
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert same(plain, scaled)


def test_parameters_missing_from_the_optimizer_are_named() -> None:
    net = make_net()
    with pytest.raises(ValueError, match="lacks parameters of the anchored encoder"):
        AnchoredAdam(net.decoder.parameters(), anchor=Anchor(net.encoder))
    net.encoder.requires_grad_(False)
    AnchoredAdam(net.decoder.parameters(), anchor=Anchor(net.encoder))


@pytest.mark.parametrize("option", ["maximize", "capturable", "differentiable"])
def test_options_that_cannot_work_are_refused(option: str) -> None:
    net = make_net()
    with pytest.raises(ValueError, match=option):
        AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder), **{option: True})
    with pytest.raises(ValueError, match=option):
        AnchoredAdam([{"params": net.parameters(), option: True}], anchor=Anchor(net.encoder))


def test_an_unknown_solver_is_refused() -> None:
    net = make_net()
    with pytest.raises(ValueError, match="choose 'stable' or 'paper'"):
        AnchoredAdam(net.parameters(), anchor=Anchor(net.encoder), solver="exact")


# --- on a GPU


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("flags", [{"foreach": True}, {"fused": True}])
@pytest.mark.parametrize("solver", ["stable", "paper"])
def test_a_step_does_not_wait_for_the_gpu(flags: dict[str, bool], solver: str) -> None:
    net = make_net()
    anchor = Anchor(net.encoder)
    net.cuda()
    optimizer = AnchoredAdam(net.parameters(), anchor=anchor, solver=solver, **flags)
    train(net, optimizer, steps=2)
    next(losses(net, 1)).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(reference.is_cuda for reference in anchor.reference)
    assert 0 < anchor.drift() < 1
