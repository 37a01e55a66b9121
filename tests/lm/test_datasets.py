"""Datasets over a folder of codes: every frame comes back, from any layout, with any number of workers."""

import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from tests.layouts.cases import layouts
from tests.lm.code_folders import random_codes, write_folder, write_random
from vqaudio.layouts import Delay, Flat, Layout, Parallel, TokenError, TokenSpace
from vqaudio.lm import CodeFolder, Collator, ItemBatch, ItemDataset, PackedDataset, ResumableBatches, WindowDataset
from vqaudio.lm.sampler import Draw

LENGTHS = st.lists(st.integers(0, 6), min_size=1, max_size=5)
MORE_WORKERS_THAN_CORES = "ignore:This DataLoader will create"
SIZES = (5, 3)


def spaced(folder: Path, layout: Layout, lengths: list[int], channels: int = 1) -> tuple[CodeFolder, TokenSpace]:
    """A folder of random codes with one codebook more than the layout has."""
    write_random(folder, (*layout.codebook_sizes, 9), lengths, channels=channels)
    found = CodeFolder(folder)
    return found, TokenSpace.of(found, layout)


def values(folder: CodeFolder, space: TokenSpace) -> list[Tensor]:
    """The codes (K, N) of every channel of every recording, in order."""
    K = space.layout.num_codebooks
    return [channel[:K] for index in range(len(folder)) for channel in folder.codes(index).values]


# ---- every frame comes back


@given(layouts(), LENGTHS, st.booleans(), st.booleans(), st.integers(1, 2))
def test_items_are_the_recordings(layout: Layout, lengths: list[int], begin: bool, end: bool, channels: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, space = spaced(Path(place), layout, lengths, channels)
        dataset = ItemDataset(folder, space, begin=begin, end=end)
        assert len(dataset) == len(lengths) * channels
        for index, expected in enumerate(values(folder, space)):
            item = dataset[index]
            assert item["name"] == f"{index // channels:02}"
            assert item["tokens"].shape[-1] == layout.num_steps(expected.shape[1]) + begin + end
            assert torch.equal(layout.to_codes(item["tokens"]), expected)


@given(layouts(), LENGTHS, st.integers(1, 12), st.sampled_from([None, 0, 2**64 - 1]), st.booleans())
def test_packed_rows_hold_every_token_once(
    layout: Layout, lengths: list[int], num_steps: int, seed: int | None, wrapped: bool
) -> None:
    if not wrapped and not any(lengths):
        lengths = [1]
    with tempfile.TemporaryDirectory() as place:
        folder, space = spaced(Path(place), layout, lengths)
        dataset = PackedDataset(folder, space, num_steps=num_steps, seed=seed, begin=wrapped, end=wrapped)
        items = ItemDataset(folder, space, begin=wrapped, end=wrapped)
        rows = [dataset[Draw(index, 3)] for index in range(len(dataset))]
        assert all(row["tokens"].shape[-1] == num_steps for row in rows)
        documents, positions = (torch.cat([row[key] for row in rows]) for key in ("documents", "positions"))
        tokens = torch.cat([row["tokens"] for row in rows], dim=-1)
        assert (tokens[..., documents < 0] == layout.pad_id).all()
        assert (documents < 0).sum() < num_steps and not (documents[:-num_steps] < 0).any()  # behind the last alone
        for index in range(len(items)):
            of_item = documents == index
            assert torch.equal(tokens[..., of_item], items[index]["tokens"])
            assert torch.equal(positions[of_item], torch.arange(int(of_item.sum())))


@given(layouts(), LENGTHS, st.integers(1, 4), st.integers(0, 2**64 - 1))
def test_windows_are_pieces_of_the_recordings(layout: Layout, lengths: list[int], num_frames: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, space = spaced(Path(place), layout, lengths)
        dataset = WindowDataset(folder, space, num_frames=num_frames, seed=seed, num_windows=5, begin=True, end=True)
        for index in range(5):
            item = dataset[index]
            whole = folder.codes(int(item["name"])).values[0, : layout.num_codebooks]
            start, stop = item["start"], item["start"] + num_frames
            assert torch.equal(layout.to_codes(item["tokens"]), whole[:, start:stop])
            assert min(whole.shape[1], num_frames) == whole[:, start:stop].shape[1]
            assert bool((item["tokens"][..., 0] == layout.begin_id).all()) == (start == 0)
            assert bool((item["tokens"][..., -1] == layout.end_id).all()) == (stop >= whole.shape[1])


def test_all_windows_are_drawn_and_about_equally_often(tmp_path: Path) -> None:
    folder, space = spaced(tmp_path, Flat(codebook_sizes=SIZES), [4, 2, 9])
    dataset = WindowDataset(folder, space, num_frames=3, seed=1, num_windows=1_000)
    drawn = [(item["name"], item["start"]) for item in map(dataset.__getitem__, range(1_000))]
    counts = {window: drawn.count(window) for window in set(drawn)}
    assert sorted(counts) == [("00", 0), ("00", 1), ("01", 0), *(("02", start) for start in range(7))]
    assert min(counts.values()) > 57 and max(counts.values()) < 143  # 100 each, within 4.5 deviations


def test_an_epoch_of_windows_is_as_long_as_the_folder_and_each_is_another(tmp_path: Path) -> None:
    folder, space = spaced(tmp_path, Parallel(codebook_sizes=SIZES), [40, 41])
    dataset = WindowDataset(folder, space, num_frames=8, seed=1)
    assert len(dataset) == 11
    epochs = [[dataset[Draw(index, epoch)]["start"] for index in range(11)] for epoch in (0, 1)]
    assert epochs[0] != epochs[1] and epochs[0] == [dataset[index]["start"] for index in range(11)]


def test_packing_in_each_epoch_in_another_order(tmp_path: Path) -> None:
    folder, space = spaced(tmp_path, Parallel(codebook_sizes=SIZES), [3] * 20)
    shuffled = PackedDataset(folder, space, num_steps=100, seed=0)
    by_name = PackedDataset(folder, space, num_steps=100)
    orders = [dataset[Draw(0, epoch)]["documents"].tolist() for dataset in (shuffled, by_name) for epoch in (0, 1)]
    assert orders[0] != orders[1] and orders[0] != orders[2] == orders[3]


def test_a_fine_stage_takes_the_codebooks_from_its_first(tmp_path: Path) -> None:
    write_random(tmp_path, (5, 3, 4), [6])
    folder = CodeFolder(tmp_path)
    space = TokenSpace.of(folder, Parallel(codebook_sizes=(3, 4)), first_codebook=1)
    (item,) = ItemDataset(folder, space, begin=False, end=False)
    assert torch.equal(item["tokens"], folder.codes(0).values[0, 1:])


def test_a_space_of_other_codes_is_refused(tmp_path: Path) -> None:
    write_random(tmp_path, SIZES, [3])
    other = TokenSpace.of(random_codes((5, 4), 1), Flat(codebook_sizes=(5, 4)))
    with pytest.raises(TokenError, match="these tokens stand for other codes: codebook_sizes"):
        ItemDataset(CodeFolder(tmp_path), other)


def test_an_index_outside_is_refused_as_by_a_list(tmp_path: Path) -> None:
    folder, space = spaced(tmp_path, Flat(codebook_sizes=SIZES), [3, 4])
    dataset = ItemDataset(folder, space)
    assert torch.equal(dataset[-1]["tokens"], dataset[1]["tokens"])
    with pytest.raises(IndexError, match="index 2 of 2 items"):
        dataset[2]


# ---- text


def spelled(text: str) -> list[int]:
    return [ord(letter) - ord("a") for letter in text]


def test_text_ids_come_before_the_audio_and_below_its_ids(tmp_path: Path) -> None:
    recordings = {"a": random_codes(SIZES, 3), "b": random_codes(SIZES, 2)}
    write_folder(tmp_path, recordings, {"a": {"text": "cab"}})
    folder = CodeFolder(tmp_path)
    space = TokenSpace.of(folder, Flat(codebook_sizes=SIZES, first_id=26))
    told, untold = ItemDataset(folder, space, text=spelled)
    assert told["text"] == "cab" and told["tokens"][:4].tolist() == [2, 0, 1, space.special_ids["begin"]]
    (audio,) = space.segments(told["tokens"])
    assert audio.start == 3 and torch.equal(space.to_codes(told["tokens"][audio]).values, recordings["a"].values)
    assert "text" not in untold and untold["tokens"][0] == space.special_ids["begin"]

    batch = Collator(space)([told, untold])
    assert batch.texts == ("cab", None) and batch.names == ("a", "b")
    assert [ids.tolist() for ids in batch.text_ids] == [[2, 0, 1], []]
    assert batch.loss_mask[0, :4].tolist() == [True, True, True, False]


def test_text_beside_stacked_tokens(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": random_codes(SIZES, 3)}, {"a": {"text": "cab"}})
    folder = CodeFolder(tmp_path)
    (item,) = ItemDataset(folder, TokenSpace.of(folder, Delay(codebook_sizes=SIZES)), text=spelled)
    assert item["text_ids"].tolist() == [2, 0, 1] and item["tokens"].shape == (2, 3 + 1 + 2)


def test_text_ids_that_would_be_taken_for_audio_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": random_codes(SIZES, 3)}, {"a": {"text": "cat"}})
    folder = CodeFolder(tmp_path)
    few = TokenSpace.of(folder, Flat(codebook_sizes=SIZES, first_id=19))
    with pytest.raises(TokenError, match="a: text id 19 is not below the layout's first_id, 19"):
        ItemDataset(folder, few, text=spelled)[0]
    none = TokenSpace.of(folder, Flat(codebook_sizes=SIZES))
    with pytest.raises(TokenError, match="no room for text ids"):
        ItemDataset(folder, none, text=spelled)


# ---- batches


@given(layouts(), LENGTHS, st.sampled_from(["right", "left"]), st.integers(1, 5))
def test_a_batch_holds_its_items(layout: Layout, lengths: list[int], side: str, multiple_of: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, space = spaced(Path(place), layout, lengths)
        items = list(ItemDataset(folder, space))
        collate = pickle.loads(pickle.dumps(Collator(space, side=side, multiple_of=multiple_of)))  # type: ignore[arg-type]
        batch = collate(items)
        assert batch.tokens.shape[-1] % multiple_of == 0
        for item, sequence in zip(items, batch.sequences(), strict=True):
            assert torch.equal(sequence, item["tokens"])


def test_a_batch_of_packed_rows_tells_where_items_are(tmp_path: Path) -> None:
    folder, space = spaced(tmp_path, Parallel(codebook_sizes=SIZES), [3, 2])
    rows = list(PackedDataset(folder, space, num_steps=6))  # 5 steps and 4: a row and a half
    batch = Collator(space, multiple_of=8)(rows)
    assert batch.documents is not None and batch.positions is not None
    assert batch.documents.tolist() == [[0, 0, 0, 0, 0, 1, -1, -1], [1, 1, 1, -1, -1, -1, -1, -1]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 0, 0], [1, 2, 3, 0, 0, 0, 0, 0]]
    assert torch.equal(batch.mask, batch.documents >= 0)
    with pytest.raises(ValueError, match="filled up on the right"):
        Collator(space, side="left")(rows)


@pytest.mark.filterwarnings(MORE_WORKERS_THAN_CORES)
def test_workers_change_nothing(tmp_path: Path) -> None:
    folder, space = spaced(tmp_path, Delay(codebook_sizes=SIZES), [5, 0, 9, 3, 7])

    def everything(num_workers: int) -> list[str]:
        found = []
        for dataset in (
            ItemDataset(folder, space),
            WindowDataset(folder, space, num_frames=3, seed=5),
            PackedDataset(folder, space, num_steps=7, seed=5),
        ):
            sampler = ResumableBatches(dataset, batch_size=2, seed=3)
            loader: DataLoader[ItemBatch] = DataLoader(
                dataset,
                batch_sampler=sampler,
                collate_fn=Collator(space),
                num_workers=num_workers,
                persistent_workers=num_workers > 0,
            )
            found += [repr(batch) for _ in range(2) for batch in sampler.over(loader)]  # two epochs
        return found

    alone = everything(0)
    assert len(set(alone)) > 15
    assert everything(1) == alone and everything(2) == alone
