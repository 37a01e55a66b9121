"""Items of a dataset -> a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from vqaudio.layouts import TokenBatch, TokenSpace
from vqaudio.layouts.batches import Side


@dataclass(frozen=True, eq=False)
class ItemBatch(TokenBatch):
    """A `TokenBatch`, and what its items know of themselves; () or None where they do not."""

    names: tuple[str, ...] = ()
    texts: tuple[str | None, ...] = ()
    text_ids: tuple[Tensor, ...] = ()  # (L,) each: of an `ItemDataset` with a text tokenizer
    documents: Tensor | None = None  # (B, L), -1 for padding: of a `PackedDataset`
    positions: Tensor | None = None  # (B, L), likewise


@dataclass(frozen=True)
class Collator:
    """`collate_fn` of a DataLoader over any dataset of `vqaudio.lm`: items -> `ItemBatch`; it survives pickling.

    Pads on `side`, "right" or "left", to a length that is a multiple of `multiple_of`.
    """

    space: TokenSpace
    _: KW_ONLY
    side: Side = "right"
    multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.side not in ("right", "left") or self.multiple_of < 1:
            given = f"side is {self.side!r} and multiple_of {self.multiple_of}"
            raise ValueError(f"{given}; wanted is right or left, and 1 or more")

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> ItemBatch:
        layout = self.space.layout
        tokens = [item["tokens"] for item in items]
        batch = layout.batch(tokens, side=self.side, multiple_of=self.multiple_of)
        more: dict[str, Any] = {}
        if "name" in items[0]:
            more["names"] = tuple(item["name"] for item in items)
            more["texts"] = tuple(item.get("text") for item in items)
        if "text_ids" in items[0]:
            more["text_ids"] = tuple(item["text_ids"] for item in items)
        lengths = batch.lengths
        if "documents" in items[0]:
            if self.side == "left":
                raise ValueError(
                    "packed rows are filled up on the right, so a batch of them has no padding on the left"
                )
            fill = (0, batch.tokens.shape[-1] - tokens[0].shape[-1])
            more["documents"] = pad(torch.stack([item["documents"] for item in items]), fill, value=-1)
            more["positions"] = pad(torch.stack([item["positions"] for item in items]), fill)
            lengths = (more["documents"] >= 0).sum(dim=1)
        return ItemBatch(batch.tokens, lengths, batch.loss_mask, batch.side, **more)
