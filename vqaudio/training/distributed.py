"""A run of many processes, as torchrun starts them: joining, the device of each, leaving."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from vqaudio.device import usable


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Join the other processes that torchrun has started; alone, or in a group already, nothing happens.

    Gives the device of this process: "cuda" becomes "cuda:0", "cuda:1", … by its local rank.
    """
    started = "WORLD_SIZE" in os.environ and "RANK" in os.environ
    if device == "cuda" and started:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    place = usable(device)
    if started and place.type == "cuda":
        torch.cuda.set_device(place)
    if not started or dist.is_initialized():
        yield place
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()
