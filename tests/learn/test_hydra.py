"""Several tasks at once: as many images of each, a shared gradient, a Dice of each."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.learn.hydra import Hydra
from napari_tlseg.learn.objectives import Segment
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.hydranet import HydraNet
from napari_tlseg.nets.unet import UNet

STILL = Augment(rotate=0, zoom=0, shift=0, gamma=0, contrast=0, brightness=0, noise=0)
SIZE = 32


def drawn(task: int, count: int, classes: int) -> list[Sample]:
    rng = np.random.default_rng(task)
    return [
        Sample(
            case=f"case{number}",  # the same names in both datasets
            image=rng.random((1, SIZE, SIZE), np.float32),
            frame=Letterbox((SIZE, SIZE), SIZE),
            labels=rng.integers(0, classes, (SIZE, SIZE), np.uint8),
            task=task,
        )
        for number in range(count)
    ]


@pytest.fixture
def tasks() -> dict[str, Segment]:
    few, many = drawn(0, 3, 2), drawn(1, 17, 4)
    return {
        "few": Segment(few[:2], few[2:], STILL, 2, 2, "dice"),
        "many": Segment(many[:12], many[12:], STILL, 2, 4, "both"),
    }


@pytest.fixture
def net() -> HydraNet:
    torch.manual_seed(0)
    return HydraNet(make_encoder("unet", 1), (2, 4))


def test_every_batch_has_as_many_images_of_each_task(tasks: dict[str, Segment]) -> None:
    """Of the small dataset each image comes six times as often as of the large one."""
    objective, rng, times = Hydra(tasks), np.random.default_rng(0), Counter[bytes]()
    pools = [
        {s.image.tobytes() for s in drawn(task, count, classes)} for task, count, classes in ((0, 3, 2), (1, 17, 4))
    ]
    for _ in range(12):
        images, labels = objective.batch(rng)
        assert images.shape == (4, 1, SIZE, SIZE) and labels.shape == (4, SIZE, SIZE)
        shown = [image.numpy().tobytes() for image in images]
        assert set(shown[:2]) <= pools[0] and set(shown[2:]) <= pools[1]
        times.update(shown)
    assert Counter(times.values()) == {12: 2, 2: 12}


def gradients(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_the_encoders_gradient_is_the_mean_of_the_tasks_a_decoders_its_own(
    tasks: dict[str, Segment], net: HydraNet
) -> None:
    """Against two U-Nets with the same weights, each trained on its own task alone; statistics held still."""
    net.eval()
    objective = Hydra(tasks)
    images, labels = objective.batch(np.random.default_rng(0))
    objective.loss(net, (images, labels)).backward()
    shared = gradients(net)
    alone = []
    for number, task in enumerate(tasks.values()):
        unet = UNet(make_encoder("unet", 1), (2, 4)[number])
        unet.encoder.load_state_dict(net.encoder.state_dict())
        unet.decoder.load_state_dict(net.decoders[number].state_dict())
        block = slice(2 * number, 2 * number + 2)
        task.loss(unet.eval(), (images[block], labels[block])).backward()
        alone.append(gradients(unet))
    compared = Counter[str]()
    for name, gradient in shared.items():
        if name.startswith("encoder."):
            expected = (alone[0][name] + alone[1][name]) / 2
            assert alone[0][name].any() and alone[1][name].any()
        else:
            _, number, rest = name.split(".", 2)
            expected = alone[int(number)][f"decoder.{rest}"] / 2
        compared[name.split(".")[0]] += 1
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
    assert compared["encoder"] == len(list(net.encoder.parameters()))
    assert compared["decoders"] == len(list(net.decoders.parameters()))


def test_the_scores_are_those_of_each_task_and_their_mean(tasks: dict[str, Segment], net: HydraNet) -> None:
    objective = Hydra(tasks)
    net.eval()
    found = objective.evaluate(net, objective.validation)
    own = [task.evaluate(net.unet(number), task.validation)["dice"] for number, task in enumerate(tasks.values())]
    assert found == {"dice": pytest.approx(np.mean(own)), "dice few": own[0], "dice many": own[1]}
    assert own[0] != own[1]


def test_a_task_without_validation_cases_is_not_counted(tasks: dict[str, Segment], net: HydraNet) -> None:
    objective = Hydra(tasks)
    found = objective.evaluate(net.eval(), [s for s in objective.validation if s.task == 1])
    assert set(found) == {"dice", "dice many"} and found["dice"] == found["dice many"]
    assert objective.evaluate(net, []) == {}
