"""Batches that can be gone on with: after any number of them the rest is the rest."""

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies as st
from torch.utils.data import DataLoader

from vqaudio.lm import ResumableBatches


def taken(sampler: ResumableBatches, count: int, num_workers: int = 0) -> list[Any]:
    """So many batches through a loader, over epochs, as (index, epoch)."""
    loader: DataLoader[Any] = DataLoader(
        range(sampler.num_items),
        batch_sampler=sampler,
        collate_fn=list,
        num_workers=num_workers,  # type: ignore[arg-type]
    )
    found: list[Any] = []
    while True:
        for batch in sampler.over(loader):
            found.append(batch)
            if len(found) == count:
                return found


@given(st.integers(1, 20), st.integers(1, 6), st.booleans(), st.integers(0, 2**64 - 1), st.data())
def test_an_epoch_has_every_item_once(
    num_items: int, batch_size: int, drop_last: bool, seed: int, data: st.DataObject
) -> None:
    if drop_last and num_items < batch_size:
        num_items = batch_size
    sampler = ResumableBatches(range(num_items), batch_size=batch_size, seed=seed, drop_last=drop_last)
    epoch = data.draw(st.integers(0, 3))
    sampler.taken = epoch * sampler.per_epoch
    batches = list(sampler)
    assert len(batches) == len(sampler) == sampler.per_epoch
    assert {draw.epoch for batch in batches for draw in batch} == {epoch}
    counts = Counter(int(draw) for batch in batches for draw in batch)
    assert set(counts.values()) == {1} and set(counts) <= set(range(num_items))
    assert sum(counts.values()) == (num_items // batch_size * batch_size if drop_last else num_items)
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 12), st.integers(1, 12))
def test_resumed_equals_never_stopped(num_items: int, batch_size: int, before: int, after: int) -> None:
    whole = taken(ResumableBatches(range(num_items), batch_size=batch_size, seed=1), before + after)
    first = ResumableBatches(range(num_items), batch_size=batch_size, seed=1)
    if before:
        taken(first, before)
    second = ResumableBatches(range(num_items), batch_size=batch_size, seed=1)
    second.load_state_dict(first.state_dict())
    assert taken(second, after) == whole[before:]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_what_workers_have_fetched_ahead_is_not_lost() -> None:
    whole = taken(ResumableBatches(range(40), batch_size=3, seed=1), 20)
    first = ResumableBatches(range(40), batch_size=3, seed=1)
    assert taken(first, 4, num_workers=2) == whole[:4]  # at least four more are on their way
    second = ResumableBatches(range(40), batch_size=3, seed=1)
    second.load_state_dict(first.state_dict())
    assert taken(second, 16, num_workers=2) == whole[4:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    sampler = ResumableBatches(range(50), batch_size=50, seed=1)
    orders = [sampler.batch(0), sampler.batch(1), ResumableBatches(range(50), batch_size=50, seed=2).batch(0)]
    assert len({tuple(map(int, order)) for order in orders}) == 3
    straight = ResumableBatches(range(50), batch_size=50, seed=1, shuffle=False)
    assert straight.batch(1) == list(range(50))


@given(st.integers(1, 4), st.integers(0, 5))
def test_ranks_together_have_the_batches_of_one(num_ranks: int, number: int) -> None:
    alone = ResumableBatches(range(23), batch_size=5, seed=1, drop_last=True)
    ranks = [
        ResumableBatches(range(23), batch_size=5, seed=1, drop_last=True, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]
    assert [draw for rank in ranks for draw in rank.batch(number)] == alone.batch(number)
    sizes = [len(rank.batch(number)) for rank in ranks]
    assert max(sizes) - min(sizes) <= 1
    ranks[0].load_state_dict(alone.state_dict())  # a run may go on with another number of ranks


def test_a_state_of_other_batches_is_refused_with_the_differences() -> None:
    state = ResumableBatches(range(10), batch_size=2, seed=1).state_dict()
    other = ResumableBatches(range(11), batch_size=2, seed=3)
    expected = "the state is that of other batches: num_items is 11 here and 10 there; seed is 3 here and 1 there"
    with pytest.raises(ValueError, match=re.escape(expected)):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size 0, rank 0 of 1"),
        ({"batch_size": 2, "rank": 2, "num_ranks": 2}, "rank 2 of 2"),
        ({"batch_size": 2, "seed": -1}, "seed is -1; it is 0 to"),
        ({"batch_size": 2, "num_ranks": 2}, "drop_last=True"),
        ({"batch_size": 11, "drop_last": True}, "the dataset has 10 items, and a batch 11: an epoch is empty"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResumableBatches(range(10), **{"seed": 0, **settings})
