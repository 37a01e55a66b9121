"""What the model is given, looked at before it is used: shapes, and where in a rectangle audio or codes are.

padding_mask        1 1 1 1 1 1 1    audio_codes_mask  1 1 1     audio may have zeros before and after it, and none
                    0 1 1 1 0 0 0                      1 0 0     within; codes begin at frame 0
"""

from collections.abc import Sequence

import torch
from torch import Tensor

PADDING = -1  # in audio_codes, where a recording has ended before the longest of its batch


def audio_rows(input_values: Tensor) -> Tensor:
    """(B, 1, T) or (B, T) -> (B, T)."""
    if not input_values.is_floating_point():
        raise ValueError(f"input_values are {input_values.dtype}; wanted are floats in [-1, 1]")
    rows = input_values[:, 0] if input_values.ndim == 3 and input_values.shape[1] == 1 else input_values
    if rows.ndim != 2:
        shape = tuple(input_values.shape)
        raise ValueError(f"input_values have shape {shape}; wanted is (batch, 1, samples), mono")
    return rows


def audio_spans(padding_mask: Tensor | None, items: Tensor) -> list[tuple[int, int]]:
    """Where the audio of each of the items (B, ...) begins and ends; without a mask they are (B, T), all of it."""
    if padding_mask is None:
        return [(0, items.shape[-1])] * len(items)
    mask = padding_mask[:, 0] if padding_mask.ndim == 3 and padding_mask.shape[1] == 1 else padding_mask
    if mask.ndim != 2 or len(mask) != len(items) or (items.ndim == 2 and mask.shape != items.shape):
        raise ValueError(f"padding_mask has shape {tuple(padding_mask.shape)}, and there is audio for "
                         f"{tuple(items.shape)}; wanted is (batch, samples)")  # fmt: skip
    mask = mask.detach().to("cpu", torch.bool)
    counts = mask.sum(dim=1).tolist()
    starts = mask.int().argmax(dim=1).tolist() if mask.shape[1] else counts
    for item, (start, count) in enumerate(zip(starts, counts, strict=True)):
        if not mask[item, start : start + count].all():
            raise ValueError(f"the padding_mask of item {item} has zeros within its audio; they go before or after it")
    return [(start, start + count) for start, count in zip(starts, counts, strict=True)]


def frame_counts(audio_codes: Tensor, mask: Tensor | None) -> Sequence[int]:
    """How many frames each item has: (B, K, N) and (B, N) or None -> B."""
    N = audio_codes.shape[-1]
    if mask is None:
        mask = (audio_codes != PADDING).any(dim=1)
        return [int(row.nonzero().max()) + 1 if row.any() else 0 for row in mask]
    rows = mask[:, 0] if mask.ndim == 3 and mask.shape[1] == 1 else mask
    if rows.shape != (len(audio_codes), N):
        raise ValueError(f"audio_codes_mask has shape {tuple(mask.shape)}, and audio_codes {tuple(audio_codes.shape)}; "
                         "wanted is (batch, frames)")  # fmt: skip
    counts = rows.bool().sum(dim=1)
    if not torch.equal(rows.bool(), torch.arange(N, device=rows.device) < counts[:, None]):
        raise ValueError("audio_codes_mask has zeros before ones; codes begin at frame 0, and padding follows them")
    return counts.tolist()
