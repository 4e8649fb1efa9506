"""The mean of a model's weights over its last steps: at a constant learning rate, what a falling one gives."""

from __future__ import annotations

from torch import Tensor, nn

KEEP = 0.95
"""Share of the mean that a step leaves, so that it is over about the last twenty steps."""


class Average:
    """An exponential mean of weights and running statistics, over as many steps as there are where these are few.

    The noise of single steps averages out while the weights themselves go on at full rate (Polyak and Juditsky 1992;
    Izmailov et al., *Averaging weights leads to wider optima*, UAI 2018). A weight that stands still is kept bit for
    bit: at λ = ∞ the encoder remains the source's.

    >>> layer, average = nn.Linear(1, 1, bias=False), Average()
    >>> for value in (1.0, 3.0):
    ...     _ = nn.init.constant_(layer.weight, value)
    ...     average.add(layer)
    >>> average.swap(layer)
    >>> layer.weight.item()
    2.0
    >>> average.swap(layer)
    >>> layer.weight.item()
    3.0
    """

    def __init__(self) -> None:
        self._mean: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, model: nn.Module) -> None:
        """One more step was taken."""
        self._steps += 1
        share = max(1 / self._steps, 1 - KEEP)
        for name, tensor in model.state_dict().items():
            if self._steps > 1 and tensor.is_floating_point():
                self._mean[name].lerp_(tensor, share)
            else:
                self._mean[name] = tensor.clone()

    def swap(self, model: nn.Module) -> None:
        """The mean into the model, and what was there in its place; once more, and all is as before."""
        live = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self._mean)
        self._mean = live
