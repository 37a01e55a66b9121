"""Which items make which batch: a pure function of seed and number, so that a run can stop anywhere and go on."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

import numpy as np

BatchT = TypeVar("BatchT")


class Draw(int):
    """An index into a dataset that knows its epoch, for datasets that draw anew in each."""

    epoch: int

    def __new__(cls, index: int, epoch: int = 0) -> "Draw":
        draw = super().__new__(cls, index)
        draw.epoch = epoch
        return draw


class ResumableBatches:
    """Batches of indices for `DataLoader(dataset, batch_sampler=…)`, epoch after epoch, in an order drawn for each.

        sampler = ResumableBatches(dataset, batch_size=16, seed=0)
        loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=Collator(space), num_workers=4)
        for batch in sampler.over(loader):          # to the end of the epoch; the next call is the next epoch
            …
            state = sampler.state_dict()            # all batches up to this one are done

    `over` counts what has arrived, and only that moves the sampler on: what workers have fetched ahead is not lost when
    a run stops. Batch n is the same for any number of workers. `batch_size` is that of all `num_ranks` processes
    together; rank r gets the r-th of `num_ranks` shares, which differ by one item at most, so that a run may go on with
    another number of ranks.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,  # leave out what is fewer than a batch at the end of an epoch
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.num_items = len(dataset)
        if not 0 <= rank < num_ranks <= batch_size:
            raise ValueError(
                f"each rank gets an item of each batch: batch_size {batch_size}, rank {rank} of {num_ranks}"
            )
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; it is 0 to 2^64 - 1")
        if num_ranks > 1 and not drop_last:
            raise ValueError("with several ranks the last batch of an epoch may not be enough for all: drop_last=True")
        if self.num_items < (batch_size if drop_last else 1):
            raise ValueError(f"the dataset has {self.num_items} items, and a batch {batch_size}: an epoch is empty")
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.rank, self.num_ranks = rank, num_ranks
        self.taken = 0  # batches, of all epochs
        self._order: tuple[int, np.ndarray] | None = None  # of the epoch last asked for

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return self.num_items // self.batch_size if self.drop_last else -(-self.num_items // self.batch_size)

    @property
    def epoch(self) -> int:
        """That of the next batch, from 0."""
        return self.taken // self.per_epoch

    def __len__(self) -> int:
        """Batches of a pass over the loader: what is left of the epoch."""
        return self.per_epoch - self.taken % self.per_epoch

    def __iter__(self) -> Iterator[list[Draw]]:
        """The rest of the epoch. Going through it moves nothing on: see `over`."""
        for number in range(self.taken, self.taken + len(self)):
            yield self.batch(number)

    def batch(self, number: int) -> list[Draw]:
        """This rank's share of batch `number`, counted over all epochs."""
        epoch, place = divmod(number, self.per_epoch)
        order = self._order_of(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        first, last = (len(order) * rank // self.num_ranks for rank in (self.rank, self.rank + 1))
        return [Draw(int(index), epoch) for index in order[first:last]]

    def over(self, loader: Iterable[BatchT]) -> Iterator[BatchT]:
        """The batches of a loader that has this sampler, counted as they arrive."""
        for batch in loader:
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where it is, and of what: plain numbers."""
        return {"taken": self.taken, **self._facts()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another stopped. ValueError, with each difference, if that one had other batches."""
        differences = [
            f"{name} is {value} here and {state.get(name)} there"
            for name, value in self._facts().items()
            if state.get(name) != value
        ]
        if differences:
            raise ValueError(f"the state is that of other batches: {'; '.join(differences)}")
        self.taken = int(state["taken"])

    def _facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("num_items", "batch_size", "seed", "shuffle", "drop_last")}

    def _order_of(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            order = shuffled(self.num_items, self.seed, epoch) if self.shuffle else np.arange(self.num_items)
            self._order = epoch, order
        return self._order[1]


def shuffled(count: int, *key: int) -> np.ndarray:
    """0 … count - 1 in an order that depends on two numbers, the key, alone: (count,) int64."""
    # Raw bits, since NumPy promises those for ever, and not what its `permutation` makes of them (NEP 19).
    bits = np.random.Philox(key=np.array(key, dtype=np.uint64)).random_raw(count)
    return np.argsort(bits, kind="stable")
