"""What a CUDA device must do as well as the CPU: freeze, fill up, be quick, and learn the same."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_tlseg.data.augment import Augment
from napari_tlseg.data.letterbox import Letterbox
from napari_tlseg.data.phantoms import write_fundus
from napari_tlseg.engine.trainings import Finetune
from napari_tlseg.errors import InputError
from napari_tlseg.events import Control, Evaluated, Stepped
from napari_tlseg.learn.anchor import Anchor, AnchoredAdam
from napari_tlseg.learn.fit import Schedule, fit
from napari_tlseg.learn.objectives import Segment
from napari_tlseg.learn.samples import Sample
from napari_tlseg.nets.checkpoint import digest
from napari_tlseg.nets.encoders import Encoder, PlainBody, make_encoder
from napari_tlseg.nets.unet import UNet

pytestmark = pytest.mark.gpu
SIZE = 64


@pytest.fixture
def exact() -> Iterator[None]:
    """Convolutions in full float32, as on the CPU."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def sample(number):
    rng = np.random.default_rng(number)
    rows, columns = np.indices((SIZE, SIZE))
    y, x = rng.uniform(20, 44, 2)
    disc = (rows - y) ** 2 + (columns - x) ** 2 < 100
    image = np.clip(0.3 + 0.5 * disc + rng.normal(0, 0.05, disc.shape), 0, 1).astype(np.float32)
    return Sample(
        case=str(number), image=image[None], frame=Letterbox((SIZE, SIZE), SIZE), labels=disc.astype(np.uint8)
    )


def train(device, strength, steps, **options):
    """The model, and the events of a training that is the same on every device."""
    samples = [sample(number) for number in range(6)]
    task = Segment(samples[:4], samples[4:], Augment(), 4, 2, "dice")
    torch.manual_seed(0)
    body = PlainBody(1, widths=(8, 16, 16), dropout=0.0)  # whose mask the devices would draw differently
    model = UNet(Encoder("unet", body, 1, (0.5,), (0.25,)), 2).to(device, memory_format=torch.channels_last)
    anchor = Anchor(model.encoder, strength)
    optimizer = AnchoredAdam(model.parameters(), 1e-3, anchor=anchor, fused=True)
    schedule = Schedule(steps=steps, evaluate_every=5, warm_up=2)
    return model, list(fit(model, task, optimizer, schedule, anchor=anchor, **options))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norm", ["source", "target"])
def test_at_infinity_the_encoder_is_the_sources_bit_for_bit(norm, precision):
    before = digest(train("cpu", math.inf, 0)[0].encoder.state_dict())
    model, events = train("cuda", math.inf, 10, norm=norm, precision=precision)
    assert digest(model.encoder.state_dict()) == before
    assert [event.drift for event in events if isinstance(event, Evaluated)] == [0, 0]


def test_infinity_reached_on_the_way_brings_the_encoder_back():
    before = digest(train("cpu", math.inf, 0)[0].encoder.state_dict())
    assert digest(train("cuda", 0.0, 5)[0].encoder.state_dict()) != before
    model, events = train("cuda", 0.0, 5, control=Control(strength=math.inf))
    assert {event.strength for event in events if isinstance(event, Stepped)} == {math.inf}
    assert digest(model.encoder.state_dict()) == before


def test_the_gpu_learns_what_the_cpu_learns(exact):
    curves = [
        [event.loss for event in train(device, 1e-3, 15)[1] if isinstance(event, Stepped)] for device in ("cpu", "cuda")
    ]
    assert curves[1][0] == pytest.approx(curves[0][0], rel=1e-4)
    assert curves[1] == pytest.approx(curves[0], rel=0.05)
    assert curves[1][-1] < curves[1][0]


def test_a_full_memory_is_an_answer_and_is_given_back(tmp_path):
    write_fundus(tmp_path / "data", 8)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    limit = 0.5 * 2**30 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(limit)
    job = Finetune(data=tmp_path / "data", out=tmp_path / "run", size=1024, batch=64, steps=2, device="cuda")
    try:
        with pytest.raises(InputError, match=r"the memory of the GPU is full; try a smaller --batch or --size"):
            list(job.run())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    assert torch.cuda.memory_allocated() - before < 2**26  # the batch alone is four times that
    assert not (tmp_path / "run").exists()
    again = Finetune(data=tmp_path / "data", out=tmp_path / "run", size=64, batch=2, steps=2, device="cuda")
    assert list(again.run())[-1].reason == "done"


def test_the_anchor_costs_little_time(record_property, capsys):
    """A whole step of DenseNet121 with the anchor, against fused Adam: reported, and held to a wide limit."""
    torch.manual_seed(0)
    model = UNet(make_encoder("densenet121", 1), 2).to("cuda", memory_format=torch.channels_last)
    image = torch.rand(8, 1, 256, 256, device="cuda").contiguous(memory_format=torch.channels_last)
    anchored = AnchoredAdam(model.parameters(), 1e-4, anchor=Anchor(model.encoder, 1e-3), fused=True)
    optimizers = {"anchored": anchored, "adam": torch.optim.Adam(model.parameters(), 1e-4, fused=True)}
    times = {name: [] for name in optimizers}
    for _ in range(25):
        for name, optimizer in optimizers.items():
            times[name].append(step_time(model, image, optimizer))
    medians = {name: float(np.median(each[5:])) for name, each in times.items()}
    ratio = medians["anchored"] / medians["adam"]
    for name, value in medians.items():
        record_property(f"{name}_ms", value)
    with capsys.disabled():
        print(f"\nstep: anchored {medians['anchored']:.1f} ms, adam {medians['adam']:.1f} ms, ratio {ratio:.3f}")
    assert ratio < 1.5


def step_time(model, image, optimizer):
    """Milliseconds of forward, backward and optimizer."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(image).float().square().mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)
