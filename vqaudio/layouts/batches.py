"""Token sequences of different lengths as one rectangle, with what a model and its loss must leave out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vqaudio.layouts.index_map import IndexMap, TokenError, integers

Side = Literal["right", "left"]


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Sequences side by side, padded to the longest."""

    tokens: Tensor  # (B, L) or (B, K, L) int64, filled up with pad
    lengths: Tensor  # (B,) int64, without the padding
    loss_mask: Tensor  # as tokens: True where an id has to be predicted: codes, end, extra specials; not begin, not pad
    side: Side  # on which the padding is

    @property
    def mask(self) -> Tensor:
        """(B, L) bool: False where there is only padding; an attention mask."""
        places = torch.arange(self.tokens.shape[-1])[None]
        lengths = self.lengths[:, None]
        return places < lengths if self.side == "right" else places >= self.tokens.shape[-1] - lengths

    def labels(self, ignore: int = -100) -> Tensor:
        """The tokens, with `ignore` where no loss is due. They are not shifted: models differ in who does that."""
        return self.tokens.masked_fill(~self.loss_mask, ignore)

    def sequences(self) -> list[Tensor]:
        """The sequences without their padding."""
        return [item[..., mask] for item, mask in zip(self.tokens, self.mask, strict=True)]


def loss_mask(layout: IndexMap, tokens: Tensor) -> Tensor:
    """True where an id has to be predicted: everything but pad, which also fills delays, and begin."""
    return (tokens != layout.pad_id) & (tokens != layout.begin_id)


def wrapped(layout: IndexMap, tokens: Tensor, *, begin: bool, end: bool) -> Tensor:
    """One sequence, (L,) or (K, L), with a step of begin before it and of end after it."""
    step = tokens.new_ones((*tokens.shape[:-1], 1))
    parts = [step * layout.begin_id] * begin + [tokens] + [step * layout.end_id] * end
    return torch.cat(parts, dim=-1)


def batch(
    layout: IndexMap, sequences: Sequence[Any], *, begin: bool, end: bool, side: Side, multiple_of: int
) -> TokenBatch:
    """`Layout.batch`."""
    if side not in ("right", "left"):
        raise TokenError(f"side is {side!r}; expected right or left")
    if not sequences:
        raise TokenError("there are no sequences to make a batch of")
    items = [wrapped(layout, integers(item, "tokens"), begin=begin, end=end) for item in sequences]
    shape = (layout.num_codebooks,) if layout.stacked else ()
    for number, item in enumerate(items):
        if item.shape[:-1] != shape:
            wanted = f"({layout.num_codebooks}, L)" if layout.stacked else "(L,)"
            raise TokenError(f"sequence {number} has shape {tuple(item.shape)}; wanted is {wanted}")
    lengths = torch.tensor([item.shape[-1] for item in items])
    longest = -(-int(lengths.max()) // multiple_of) * multiple_of
    tokens = torch.full((len(items), *shape, longest), layout.pad_id)
    for row, item in zip(tokens, items, strict=True):
        length = item.shape[-1]
        row[..., :length] = item if side == "right" else row[..., :length]
        if side == "left" and length:
            row[..., longest - length :] = item
    return TokenBatch(tokens, lengths, loss_mask(layout, tokens), side)
