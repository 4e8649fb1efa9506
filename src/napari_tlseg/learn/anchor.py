"""Fine-tuning that stays near what was learned before: the anchored cost and the two ways to minimise it.

References
----------
.. [1] Sagie et al., the cost and its λ (eq. 2).
.. [2] Yun, Lozano and Yang, "Adaptive proximal gradient methods for structured neural networks", NeurIPS 2021: ProxGen.
"""

from __future__ import annotations

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from napari_tlseg.options import Solver

SERIAL = 32768  # PyTorch works on more elements than this in several threads, and waking them costs more than it saves
_Alike = tuple[int, float, int, torch.device, torch.dtype]
"""Parameter group, weight of λ, Adam's steps so far, device and dtype."""
PADDING = 16  # elements; every tensor in a shared buffer starts where vector instructions like it
TINY, HUGE = 1e-30, 1e30  # beyond these, 2·lr·λ moves nothing and everything, in double precision too


class Anchor:
    """A pull of an encoder's parameters θ towards θ̄, the values they have at this moment.

    The cost of a fine-tuning is ``loss(θ) + λ Σ (θ − θ̄)²`` (Sagie et al., eq. 2): a sum over all parameters of the
    encoder, not a mean, and without the ½ of other libraries, whose λ is twice this one. λ is `strength`: 0 is plain
    fine-tuning, ∞ a frozen encoder; it may be set at any time. What the rest of the network does is left to the loss.

    `weights`, one per parameter, make λ differ over the encoder: the cost is then ``loss(θ) + λ Σ w (θ − θ̄)²``, as in
    a regularisation that depends on the layer (Sagie et al. 2021). Where w = 0 nothing pulls, at λ = ∞ neither.

    `parameters` are those that have a θ̄, by default all of the encoder. The others have no source: nothing pulls at
    them, and they are not in the drift.

    Buffers, such as the statistics of batch normalisation, are no parameters: they are remembered and restored with
    the parameters, but nothing pulls at them.

    >>> encoder = nn.Linear(2, 1)
    >>> anchor = Anchor(encoder, strength=0.5)
    >>> with torch.no_grad():
    ...     _ = encoder.bias.add_(2)
    >>> anchor.penalty().item()
    2.0
    """

    def __init__(
        self,
        encoder: nn.Module,
        strength: float = 1.0,
        weights: Sequence[float] | None = None,
        parameters: Iterable[nn.Parameter] | None = None,
    ) -> None:
        self.encoder = encoder
        self.parameters: tuple[nn.Parameter, ...] = tuple(encoder.parameters() if parameters is None else parameters)
        if not self.parameters:
            raise ValueError("the encoder has no parameters to anchor")
        self.weights = (1.0,) * len(self.parameters) if weights is None else tuple(map(float, weights))
        if len(self.weights) != len(self.parameters) or not all(0 <= w < math.inf for w in self.weights):
            raise ValueError("an anchor has one weight per parameter, each 0 or more")
        self._kept = [p.detach().clone() for p in self.parameters]  # detach alone would follow the weights
        self._buffers = {name: buffer.detach().clone() for name, buffer in encoder.named_buffers()}
        self._near = self._kept
        self.size = _norm(self._kept).item()
        """‖θ̄‖."""
        self.strength = strength

    @property
    def strength(self) -> float:
        """λ, from 0 to ∞."""
        return self._strength

    @strength.setter
    def strength(self, value: float) -> None:
        if not value >= 0:  # nor is NaN
            raise ValueError(f"the strength λ must lie between 0 and ∞, not at {value}")
        self._strength = float(value)

    @property
    def reference(self) -> list[Tensor]:
        """θ̄ in the order of `parameters`, on their device and in their dtype and memory format."""
        if not all(map(_alike, self._near, self.parameters)):
            self._near = [torch.empty_like(p).copy_(r) for r, p in zip(self._kept, self._detached(), strict=True)]
        return self._near

    def penalty(self) -> Tensor:
        """λ Σ w (θ − θ̄)², a scalar that gradients flow through; at λ = ∞ it is 0 for θ = θ̄, else ∞ without gradient."""
        away = torch._foreach_sub(self.parameters, self.reference)
        squared = _norm(torch._foreach_mul(away, [math.sqrt(w) for w in self.weights])).square()
        if math.isinf(self.strength):
            return 0 * squared + torch.where(squared.detach() > 0, math.inf, 0.0)
        return self.strength * squared

    @torch.no_grad()
    def distance(self) -> float:
        """‖θ − θ̄‖."""
        return _norm(torch._foreach_sub(self.parameters, self.reference)).item()

    def drift(self) -> float:
        """‖θ − θ̄‖ / ‖θ̄‖: how far the encoder has moved, relative to its size."""
        distance = self.distance()
        return distance / self.size if self.size else math.inf if distance else 0.0

    @torch.no_grad()
    def drifts(self) -> tuple[float, ...]:
        """`drift` of each stage of the encoder, finest first; of an encoder that tells of no stages, of it as one."""
        every = tuple(self.encoder.parameters())
        stages = dict(zip(every, getattr(self.encoder, "stages", (0,) * len(every)), strict=True))
        groups = [stages[p] for p in self.parameters]
        norms = [torch._foreach_norm(t) for t in (torch._foreach_sub(self.parameters, self.reference), self.reference)]
        moved, size = (np.bincount(groups, [float(n) ** 2 for n in each]) for each in norms)
        return tuple(math.sqrt(m / s) if s else math.inf if m else 0.0 for m, s in zip(moved, size, strict=True))

    @torch.no_grad()
    def restore(self) -> None:
        """Put θ̄ and the buffers back, bit for bit, but for what is `free`."""
        held = [(p, kept) for p, kept, w in zip(self._detached(), self._kept, self.weights, strict=True) if w]
        for parameter, kept in held:
            parameter.copy_(kept)
        free = {id(buffer) for module in self.free() for buffer in module.buffers(recurse=False)}
        for name, buffer in self.encoder.named_buffers():
            if id(buffer) not in free:
                buffer.copy_(self._buffers[name])

    def free(self) -> Iterator[nn.Module]:
        """The modules of the encoder whose own parameters nothing pulls at."""
        weights = dict(zip(self.parameters, self.weights, strict=True))
        return self._modules_without({p for p, w in weights.items() if w})

    def drawn(self) -> Iterator[nn.Module]:
        """The modules of the encoder whose own parameters have no θ̄."""
        return self._modules_without(set(self.parameters))

    def _modules_without(self, parameters: set[nn.Parameter]) -> Iterator[nn.Module]:
        for module in self.encoder.modules():
            own = {*module.parameters(recurse=False)}
            if own and not own & parameters:
                yield module

    def _detached(self) -> list[Tensor]:
        return [p.detach() for p in self.parameters]


class AnchoredAdam(torch.optim.Adam):
    """Adam on ``loss + anchor.penalty()``, given the gradients of the loss alone.

    ``solver="stable"`` takes Adam's own step on the loss to q, then the proximal step of the penalty in Adam's metric
    D = √v̂ + ε (ProxGen)::

        θ ← (D q + c θ̄) / (D + c),   c = 2 · lr · λ

    Where this stands still, the gradient of the cost is 0, at every λ; θ is θ̄ itself at λ = ∞. A pull that ignores D,
    as that of AdamW does, stands still elsewhere.

    ``solver="paper"`` adds 2λ(θ − θ̄) to the gradients, as autograd would for a penalty written into the loss; `.grad`
    then holds the gradient of the whole cost. It cannot express λ = ∞, and Adam's normalised steps leave noise
    around θ̄: the same λ is not the same model in both.

    At λ = 0 both are `torch.optim.Adam` with the same arguments, bit for bit. All its arguments are taken but
    `maximize`, `capturable` and `differentiable`; ``fused=True`` is the fastest. L2 weight decay counts as part of the
    loss. Parameters without a gradient are left alone, as Adam does, except at λ = ∞, which returns them to θ̄ too.

    >>> encoder, decoder = nn.Linear(4, 3), nn.Linear(3, 1)
    >>> model = nn.Sequential(encoder, decoder)
    >>> optimizer = AnchoredAdam(model.parameters(), lr=1e-3, anchor=Anchor(encoder, strength=8))
    >>> model(torch.ones(1, 4)).sum().backward()
    >>> optimizer.step()
    """

    _step_supports_amp_scaling = False  # a gradient scaler then unscales the gradients first, and skips whole steps

    def __init__(
        self, params: Any, lr: float | Tensor = 1e-3, *, anchor: Anchor, solver: Solver = "stable", **adam: Any
    ) -> None:
        if solver not in get_args(Solver):
            raise ValueError(f"there is no solver {solver!r}; choose 'stable' or 'paper'")
        super().__init__(params, lr, **adam)
        self._step_supports_amp_scaling = False
        self.anchor, self.solver = anchor, solver
        self._blocks: dict[tuple[int, ...], _Block] = {}
        self._counts: dict[Tensor, int] = {}
        self._check_strength()
        ours = {p for group in self.param_groups for p in group["params"]}
        if any(p.requires_grad and p not in ours for p in anchor.parameters):
            raise ValueError("the optimizer lacks parameters of the anchored encoder; give it all of them")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, as Adam does."""
        options = {**self.defaults, **param_group}
        if refused := [name for name in ("maximize", "capturable", "differentiable") if options.get(name)]:
            raise ValueError(f"an anchored optimizer cannot work with {refused[0]}=True")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, at the λ that `anchor.strength` says now."""
        self._check_strength()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.solver == "paper":
            self._add_gradients()
        inspect.unwrap(torch.optim.Adam.step)(self)  # as its wrapper would call the step hooks a second time
        if self.solver == "stable":
            self._approach()
        return loss

    def _check_strength(self) -> None:
        if self.solver == "paper" and math.isinf(self.anchor.strength):
            raise ValueError("the solver 'paper' has no λ = ∞; use the solver 'stable', or a finite λ")

    def _add_gradients(self) -> None:
        """Turn the gradients of the loss into those of the cost."""
        triples = zip(self.anchor.parameters, self.anchor.reference, self.anchor.weights, strict=True)
        pulled = [(p.grad, p, reference, w) for p, reference, w in triples if p.grad is not None]
        if pulled and self.anchor.strength:
            gradients, params, references, weights = zip(*pulled, strict=True)
            away = torch._foreach_sub(params, references)
            torch._foreach_mul_(away, [2 * self.anchor.strength * w for w in weights])
            torch._foreach_add_(gradients, away)

    def _approach(self) -> None:
        """The proximal step, on what Adam has just moved."""
        strength = self.anchor.strength
        if 0 < strength < math.inf:
            self._blocks = dict(self._approach_block(*block, strength) for block in self._moved_alike().items())
            return
        self._counts.clear()  # the steps that now go by are not counted
        if strength:
            triples = zip(self.anchor.parameters, self.anchor.reference, self.anchor.weights, strict=True)
            params, references = zip(*((p, reference) for p, reference, w in triples if w), strict=True)
            torch._foreach_copy_(params, references)

    def _moved_alike(self) -> dict[_Alike, list[nn.Parameter]]:
        """The anchored parameters that moved in this step, by what their step has in common."""
        weights, alike = dict(zip(self.anchor.parameters, self.anchor.weights, strict=True)), defaultdict(list)
        for number, group in enumerate(self.param_groups):
            for p in group["params"]:
                if weights.get(p) and p.grad is not None:
                    alike[number, weights[p], self._count(self.state[p]["step"]), p.device, p.dtype].append(p)
        return alike

    def _count(self, step: Tensor) -> int:
        """Adam's steps so far; counted along where reading them would wait for the GPU."""
        if step.is_cpu:
            return int(step)
        self._counts[step] = self._counts[step] + 1 if step in self._counts else int(step)
        return self._counts[step]

    def _approach_block(
        self, alike: _Alike, params: list[nn.Parameter], strength: float
    ) -> tuple[tuple[int, ...], _Block]:
        """Move `params` towards θ̄; the block that did it, and where in memory its tensors lie."""
        number, weight, steps, *_ = alike
        group = self.param_groups[number]
        place, block = self._block(params, "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq")
        c = 2 * min(strength * weight, HUGE) * group["lr"]
        c = c.clamp(TINY, HUGE) if isinstance(c, Tensor) else min(max(c, TINY), HUGE)
        block.approach(1 / (c * math.sqrt(1 - group["betas"][1] ** steps)), 1 + group["eps"] / c)
        return place, block

    def _block(self, params: list[nn.Parameter], moment: str) -> tuple[tuple[int, ...], _Block]:
        """The block of `params`; a new one, which their moments move into, when any of its tensors has moved."""
        near = dict(zip(self.anchor.parameters, self.anchor.reference, strict=True))
        references = [near[p] for p in params]
        moments = [self.state[p][moment] for p in params]
        place = _place(params, references, moments)
        if place in self._blocks:
            return place, self._blocks[place]
        block = _Block(params, references, moments)
        for p, second in zip(params, block.seconds, strict=True):
            self.state[p][moment] = second
        return _place(params, references, block.seconds), block

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "anchor": self.anchor, "solver": self.solver}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._blocks, self._counts = {}, {}


class _Block:
    """Parameters with one learning rate and step count, their second moments v side by side in one buffer.

    The weight of θ̄, c / (D + c) = 1 / (1 + ε/c + √v / (c √(1 − β₂ᵗ))), then takes a few passes over one long tensor
    instead of as many over each of some hundred, and lies in [0, 1] whatever c is.
    """

    def __init__(self, params: list[nn.Parameter], references: list[Tensor], moments: list[Tensor]) -> None:
        sizes = [math.ceil(p.numel() / PADDING) * PADDING for p in params]
        self._second = moments[0].new_zeros(sum(sizes))
        self._weight = params[0].new_empty(sum(sizes))
        self.seconds = _views(self._second, sizes, params)
        torch._foreach_copy_(self.seconds, moments)
        self._params = _pieces(params)
        self._references = _pieces(references)
        self._weights = _pieces(_views(self._weight, sizes, params))

    def approach(self, scale: float | Tensor, offset: float | Tensor) -> None:
        """Move every parameter towards θ̄, by the weight 1 / (`offset` + `scale` √v)."""
        torch.sqrt(self._second, out=self._weight).mul_(scale).add_(offset).reciprocal_()
        torch._foreach_lerp_(self._params, self._references, self._weights)


def _views(flat: Tensor, sizes: list[int], params: list[nn.Parameter]) -> list[Tensor]:
    """Parts of `flat` in the shapes and memory formats of `params`."""
    strides = [torch.empty_like(p, device="meta").stride() for p in params]
    parts = zip(torch.split(flat, sizes), params, strides, strict=True)
    return [part.as_strided(p.size(), stride) for part, p, stride in parts]


def _pieces(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors, those on a CPU in views small enough for the one thread that asks."""
    pieces: list[Tensor] = []
    for tensor in tensors:
        if tensor.is_cpu and tensor.numel() > SERIAL:
            pieces += torch.split(tensor.detach(), max(1, SERIAL * len(tensor) // tensor.numel()))
        else:
            pieces.append(tensor.detach())
    return pieces


def _place(*tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for kind in tensors for tensor in kind)


def _norm(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm


def _alike(reference: Tensor, parameter: Tensor) -> bool:
    same_kind = reference.device == parameter.device and reference.dtype == parameter.dtype
    return same_kind and reference.stride() == parameter.stride()
