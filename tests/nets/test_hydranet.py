"""One encoder, a decoder per task: each image meets its own decoder, and a file gives all of it back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_tlseg.errors import InputError
from napari_tlseg.nets.checkpoint import Provenance, load_encoder, load_model, read_provenance, save
from napari_tlseg.nets.encoders import make_encoder
from napari_tlseg.nets.hydranet import HydraNet
from napari_tlseg.nets.unet import UNet


@pytest.fixture
def net() -> HydraNet:
    torch.manual_seed(1)
    net = HydraNet(make_encoder("unet", 1), (2, 4, 3))
    net(torch.rand(6, 1, 32, 32))  # whose statistics are then not those of a new network
    return net.eval()


def test_each_image_meets_the_decoder_of_its_task(net: HydraNet) -> None:
    """As three separate U-Nets would, on sides that the deepest stride does not divide."""
    images = torch.rand(6, 1, 40, 52)
    found = net(images)
    assert [logits.shape for logits in found] == [(2, 1, 40, 52), (2, 4, 40, 52), (2, 3, 40, 52)]
    for task, logits in enumerate(found):
        alone = UNet(net.encoder, (2, 4, 3)[task])
        alone.decoder.load_state_dict(net.decoders[task].state_dict())
        torch.testing.assert_close(logits, alone.eval()(images[2 * task : 2 * task + 2]), rtol=1e-4, atol=1e-5)


def test_the_unet_of_a_task_is_the_hydranets_own(net: HydraNet) -> None:
    part = net.unet(1)
    assert part.encoder is net.encoder and part.decoder is net.decoders[1]
    assert not any(module.training for module in (*part.encoder.modules(), *part.decoder.modules()))


def test_a_batch_passes_the_encoder_once(net: HydraNet) -> None:
    """So that the running statistics are of the mixture: those of all images together, not of the last task."""
    norm = net.encoder.body.levels[0][1]  # type: ignore[index,union-attr]
    images, convolution = torch.rand(6, 1, 32, 32), net.encoder.body.levels[0][0]  # type: ignore[index,union-attr]
    norm.momentum = 1.0
    net.train()(images)
    with torch.no_grad():
        seen = convolution((images - net.encoder.mean) / net.encoder.std)
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)


def provenance(**changes: object) -> Provenance:
    tasks = {"eyes": ("background", "disc"), "chests": ("background", "lung", "heart", "trachea"), "b": ("b", "c", "d")}
    facts = {"task": "hydra", "encoder": "unet", "in_channels": 1, "recipe": "plain", "size": 32, "tasks": tasks}
    return Provenance(**(facts | {"classes": ("background", "disc", "lung")} | changes))  # type: ignore[arg-type]


def test_a_file_gives_the_whole_network_and_its_encoder_back(net: HydraNet, tmp_path: Path) -> None:
    path, images = tmp_path / "source.safetensors", torch.rand(3, 1, 32, 32)
    save(path, net, provenance())
    loaded = load_model(path)
    assert isinstance(loaded, HydraNet) and read_provenance(path).tasks == provenance().tasks
    assert all(map(torch.equal, loaded(images), net(images)))
    for name, tensor in load_encoder(path).state_dict().items():
        assert torch.equal(tensor, net.encoder.state_dict()[name]), name


@pytest.mark.parametrize("tasks", [{}, {"eyes": ("background",)}, {"eyes": 3}, ["eyes"]])
def test_a_file_that_does_not_say_its_tasks_is_refused(tasks: object, net: HydraNet, tmp_path: Path) -> None:
    save(tmp_path / "source.safetensors", net, provenance(tasks=tasks))
    with pytest.raises(InputError, match="does not say where its weights come from"):
        read_provenance(tmp_path / "source.safetensors")
