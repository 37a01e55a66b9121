"""A run of many processes, as torchrun starts them: joining, the device of each, leaving."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Join the other processes that torchrun has started; alone, or in a group already, nothing happens.

    Gives the device of this process: "cuda" becomes "cuda:0", "cuda:1", … by its local rank.
    """
    started = "WORLD_SIZE" in os.environ and "RANK" in os.environ
    if device == "cuda" and started:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not started or dist.is_initialized():
        yield torch.device(device)
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield torch.device(device)
    finally:
        dist.destroy_process_group()
