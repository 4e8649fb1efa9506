"""Where a job runs, and in which number format."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from napari_tlseg.errors import InputError
from napari_tlseg.learn.device import autocast, denormals_flushed, pick_device, pick_precision

CPU = torch.device("cpu")


def test_auto_takes_a_gpu_where_there_is_one():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta:x", ""])
def test_a_device_that_is_not_there_is_answered_in_words(name):
    with pytest.raises(InputError, match=f"device '{name}' cannot be used here; leave --device at auto, or use cpu"):
        pick_device(name)


def test_precision_is_what_was_asked_for_or_what_is_fast():
    assert pick_precision("float32", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16
    fast = torch.cpu._is_avx512_bf16_supported()
    assert pick_precision("auto", CPU) == (torch.bfloat16 if fast else torch.float32)
    assert pick_precision("auto", torch.device("mps")) == torch.float32


def test_a_cpu_learns_from_volumes_in_single_precision():
    assert pick_precision("auto", CPU, learns_volumes=True) == torch.float32
    with pytest.raises(InputError, match="a CPU cannot learn from volumes in bfloat16; leave --precision at auto"):
        pick_precision("bfloat16", CPU, learns_volumes=True)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_convolutions_are_in_that_precision(precision):
    with autocast(CPU, precision):
        assert torch.nn.functional.conv2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)).dtype == precision
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.slow
def test_distances_are_measured_where_denormals_are_flushed():
    """As the command line does for speed. A mask along the edge of the image has coordinates of 0, where SciPy's tree
    splits at the next larger number, which is then 0 again: it dies of its recursion, hence a process of its own.
    """
    code = """
import numpy as np, torch
from napari_tlseg.learn.metrics import hausdorff_95
torch.set_flush_denormal(True)
mask = np.zeros((1, 64, 64), bool)
mask[0, 0], mask[0, :, 5] = True, True
print(hausdorff_95(mask, np.roll(mask, 2, 2), (1.0, 1.0)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 2


def test_small_numbers_are_zero_only_for_a_while():
    def smaller():
        return np.float32(1e-38) / np.float32(10)

    with denormals_flushed():
        assert smaller() == 0
    assert smaller() > 0
