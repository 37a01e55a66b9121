"""One row of ids for each split, read back with NumPy alone and turned into the codes they were."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from tests.layouts.cases import layouts
from tests.lm.code_folders import random_codes, write_folder, write_random
from vqaudio.layouts import Delay, Flat, Layout, TokenError, TokenSpace
from vqaudio.lm import CodeFolder, ItemDataset, export_binary


@given(
    st.sampled_from(["flat", "flat-without-offsets", "coarse-first", "chunks"]).flatmap(layouts),
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
)
def test_what_is_written_is_what_is_read(layout: Layout, lengths: list[int]) -> None:
    with tempfile.TemporaryDirectory() as place:
        write_random(Path(place) / "codes", layout.codebook_sizes, lengths)
        folder = CodeFolder(Path(place) / "codes")
        dataset = ItemDataset(folder, TokenSpace.of(folder, layout))
        out = Path(place) / "binary"
        assert export_binary({"train": dataset, "val": dataset}, out) == TokenSpace.load(out / "space.json")
        meta = json.loads((out / "meta.json").read_text())
        for name in ("train", "val"):
            ids = np.memmap(out / f"{name}.bin", np.dtype(meta["dtype"]).newbyteorder("<"), "r")
            assert len(ids) == meta["num_tokens"][name] and ids.max() < meta["vocab_size"]
            segments = dataset.space.segments(ids)
            assert len(segments) == len(lengths)
            for index, segment in enumerate(segments):
                assert torch.equal(layout.to_codes(ids[segment]), folder.codes(index).values[0])
            del ids


@pytest.mark.parametrize(("size", "dtype"), [(2**16 - 3, "uint16"), (2**16 - 2, "uint32")])
def test_ids_get_the_room_they_need(tmp_path: Path, size: int, dtype: str) -> None:
    """The specials are three more, so that the last id is the size and two."""
    codes = random_codes((size,), 30)
    codes.values[0, 0, 0] = size - 1
    write_folder(tmp_path / "codes", {"a": codes})
    folder = CodeFolder(tmp_path / "codes")
    dataset = ItemDataset(folder, TokenSpace.of(folder, Flat(codebook_sizes=(size,))))
    export_binary({"train": dataset}, tmp_path)
    assert json.loads((tmp_path / "meta.json").read_text())["dtype"] == dtype
    ids = np.fromfile(tmp_path / "train.bin", dtype)
    assert len(ids) == 32 and ids[1] == size - 1 and ids[-1] == size + 2


def test_what_cannot_be_one_row_is_refused(tmp_path: Path) -> None:
    write_random(tmp_path, (5, 3), [3])
    folder = CodeFolder(tmp_path)
    flat, wider = (TokenSpace.of(folder, Flat(codebook_sizes=(5, 3), first_id=first)) for first in (0, 9))
    delay = TokenSpace.of(folder, Delay(codebook_sizes=(5, 3)))
    with pytest.raises(TokenError, match="layout delay has a row for each codebook"):
        export_binary({"train": ItemDataset(folder, delay)}, tmp_path / "out")
    with pytest.raises(TokenError, match=r"dataset 'val': the token spaces differ: layout.first_id is 9 here and 0"):
        export_binary({"train": ItemDataset(folder, flat), "val": ItemDataset(folder, wider)}, tmp_path / "out")
    with pytest.raises(TokenError, match="dataset 'train': without begin and end"):
        export_binary({"train": ItemDataset(folder, flat, end=False)}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
