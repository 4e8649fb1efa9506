"""Several segmentations learned at once by one shared encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from napari_tlseg.events import Control
from napari_tlseg.learn.objectives import Batch, Segment
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.hydranet import HydraNet


class Hydra:
    """The tasks of a HydraNet, each with its own loss and Dice (Sagie et al.).

    A step draws as many images of each task, however large its dataset is, and its loss is the mean of the tasks': none
    is drowned out. `Sample.task` says whose a sample is, by its place in `tasks`.
    """

    leading, sign = "dice", 1

    def __init__(self, tasks: Mapping[str, Segment]) -> None:
        self.tasks = tasks
        self.validation: Sequence[Sample] = [sample for task in tasks.values() for sample in task.validation]

    def batch(self, rng: np.random.Generator) -> Batch:
        """Images (T·B, C, S, S) and labels (T·B, S, S), those of the first task first."""
        images, labels = zip(*(task.batch(rng) for task in self.tasks.values()), strict=True)
        return torch.cat(images), torch.cat(labels)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean of the tasks' losses."""
        pairs = zip(self.tasks.values(), model(batch[0]), batch[1].chunk(len(self.tasks)), strict=True)
        return torch.stack([task.cost(logits, labels) for task, logits, labels in pairs]).mean()

    def evaluate(self, model: nn.Module, samples: Sequence[Sample], control: Control | None = None) -> dict[str, float]:
        """`dice`: the mean over the tasks that can be judged; `dice <task>`: each one's."""
        assert isinstance(model, HydraNet)
        found: dict[str, float] = {}
        for number, (name, task) in enumerate(self.tasks.items()):
            own = [sample for sample in samples if sample.task == number]
            found |= {f"{key} {name}": score for key, score in task.evaluate(model.unet(number), own, control).items()}
        return {"dice": float(np.mean([*found.values()])), **found} if found else {}
