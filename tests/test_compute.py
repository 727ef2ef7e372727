"""gmelib.compute: what a record tells of the device that a run was trained on."""

import torch

from gmelib.compute import device_name


def test_an_apple_gpu_is_not_told_as_a_processor_with_its_threads():
    assert device_name(torch.device("mps")) == "Apple GPU (mps)"


def test_a_processor_is_told_with_its_threads():
    assert device_name(torch.device("cpu")).endswith(f", {torch.get_num_threads()} threads")
