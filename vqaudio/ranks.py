"""What the processes of one run agree on (ranks, as torch.distributed counts them). Alone, each call is the identity.

Every function here is a collective: all ranks must make the same calls in the same order, or all of them wait for ever.
So whatever decides whether a call is made must itself be agreed on first (`agreed`), never seen by one rank alone.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def count() -> int:
    """How many processes take part; 1 without torch.distributed."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    return dist.get_rank() if _joined() else 0


def share(total: int) -> slice:
    """This rank's part of `total` things, in rank order; parts differ by one at most, and none is empty if there is one
    for each."""
    size, me = count(), rank()
    return slice(total * me // size, total * (me + 1) // size)


def agreed(flag: bool | Tensor, *, device: torch.device | str = "cpu") -> bool:
    """Whether `flag` holds on every rank."""
    if not _joined():
        return bool(flag)
    value = torch.tensor([bool(flag)], dtype=torch.int32, device=_communicating(device))
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return bool(value.item())


def gathered(rows: Tensor) -> Tensor:
    """(M, …) of every rank, one below the other in rank order, the same on all; M may differ between ranks."""
    if not _joined():
        return rows
    length = torch.tensor([len(rows)], device=rows.device)
    lengths = [torch.empty_like(length) for _ in range(count())]
    dist.all_gather(lengths, length)
    sizes = [int(each) for each in lengths]
    padded = rows.new_zeros(max(sizes), *rows.shape[1:])
    padded[: len(rows)] = rows
    pieces = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(pieces, padded)
    return torch.cat([piece[:size] for piece, size in zip(pieces, sizes, strict=True)])


def sum_over_ranks(tensors: list[Tensor]) -> None:
    """Each tensor becomes its sum over all ranks, in place; one exchange for all of them."""
    if not _joined() or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, value in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(value.view(tensor.shape))


def send_from_first(tensors: list[Tensor]) -> None:
    """Each tensor becomes that of rank 0, in place."""
    if _joined():
        for tensor in tensors:
            value = tensor.contiguous()
            dist.broadcast(value, src=0)
            tensor.copy_(value)


def wait_for_all() -> None:
    """Returns when every rank has called it."""
    agreed(True)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _communicating(device: torch.device | str) -> torch.device:
    """NCCL carries what lies on a GPU and nothing else."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device(device)
