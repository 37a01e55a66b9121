"""Datasets -> one long row of ids for each split, as nanoGPT and what descends from it read them.

    train.bin    ids one after the other, little endian: uint16, or uint32 if the vocabulary has over 65,536
    val.bin      likewise; one file for each dataset, by its name
    meta.json    {"format": "vqaudio binary tokens", "version": 1, "vocab_size", "dtype", "num_tokens": {"train": …}}
    space.json   what the ids mean: `vqaudio.layouts.TokenSpace`

Read them by `np.memmap(path, dtype="<u2", mode="r")`. Begin and end stand between recordings, and `space.segments`
finds the recordings by them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vqaudio.io import write_aside
from vqaudio.layouts import TokenError, TokenSpace
from vqaudio.layouts.space import SPACE_NAME
from vqaudio.lm.dataset import ItemDataset

FORMAT = "vqaudio binary tokens"
VERSION = 1
META_NAME = "meta.json"


def export_binary(datasets: Mapping[str, ItemDataset], out: str | Path) -> TokenSpace:
    """Write NAME.bin for each dataset, with its text ids if it has any, and say what they are; returns their space.

    TokenError if the layout is stacked, since a file is one row, if recordings would run into each other for lack of
    begin and end, or if the datasets differ in their space.
    """
    out = Path(out)
    space = _common_space(datasets)
    if space.vocab_size > 2**32:
        raise TokenError(f"ids up to {space.vocab_size - 1} fit no uint32")
    dtype = np.dtype("<u2" if space.vocab_size <= 2**16 else "<u4")
    out.mkdir(parents=True, exist_ok=True)
    counts = {name: _write(dataset, out / f"{name}.bin", dtype) for name, dataset in datasets.items()}
    space.save(out / SPACE_NAME)
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "vocab_size": space.vocab_size,
        "dtype": dtype.name,
        "num_tokens": counts,
    }
    with write_aside(out / META_NAME) as partial:  # last: what is named in it is there
        partial.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return space


def _common_space(datasets: Mapping[str, ItemDataset]) -> TokenSpace:
    if not datasets:
        raise TokenError("there are no datasets to write")
    first = next(iter(datasets.values())).space
    for name, dataset in datasets.items():
        try:
            dataset.space.check_same(first)
        except TokenError as error:
            raise TokenError(f"dataset {name!r}: {error}") from error
        if not (dataset.begin and dataset.end):
            raise TokenError(f"dataset {name!r}: without begin and end nobody finds where a recording ends")
    if first.layout.stacked:
        raise TokenError(f"layout {first.layout.kind} has a row for each codebook, and a file is one; take flat or "
                         "coarse-first")  # fmt: skip
    return first


def _write(dataset: ItemDataset, path: Path, dtype: np.dtype) -> int:
    """Item after item, so that memory holds one of them; how many ids that are."""
    count = 0
    with write_aside(path) as partial, open(partial, "wb") as file:
        for index in range(len(dataset)):
            ids = dataset[index]["tokens"].numpy()  # (L,)
            file.write(ids.astype(dtype).tobytes())
            count += len(ids)
    return count
