"""Layouts and codes for property tests, and the index maps once more, from their definitions, code by code."""

from collections.abc import Iterator
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from vqaudio.layouts import CoarseFirst, Delay, Flat, Layout, Parallel

SIZES = st.lists(st.sampled_from([1, 2, 3, 7, 1024]), min_size=1, max_size=8).map(tuple)
KINDS = ("flat", "flat-without-offsets", "coarse-first", "groups", "chunks", "parallel", "delay", "odd-delays")


@st.composite
def layouts(draw: st.DrawFn, kind: str | None = None, sizes: tuple[int, ...] | None = None) -> Layout:
    kind = draw(st.sampled_from(KINDS)) if kind is None else kind
    sizes = draw(SIZES) if sizes is None else sizes
    K = len(sizes)
    common: dict[str, Any] = {
        "codebook_sizes": sizes,
        "extra_specials": draw(st.sampled_from([(), ("mask", "speaker")])),
    }
    first_id = draw(st.sampled_from([0, 5, 32_000]))
    groups: list[int] = []
    while sum(groups) < K:
        groups.append(draw(st.integers(1, K - sum(groups))))
    match kind:
        case "flat":
            return Flat(**common, first_id=first_id)
        case "flat-without-offsets":
            return Flat(**common, first_id=first_id, offsets=False)
        case "coarse-first":
            return CoarseFirst(**common, first_id=first_id)
        case "groups":
            return CoarseFirst(**common, first_id=first_id, groups=tuple(groups))
        case "chunks":
            return CoarseFirst(**common, first_id=first_id, groups=tuple(groups), chunk_frames=draw(st.integers(1, 4)))
        case "parallel":
            return Parallel(**common)
        case "delay":
            return Delay(**common)
        case _:
            delays = draw(st.permutations([0, *draw(st.lists(st.integers(0, 6), min_size=K - 1, max_size=K - 1))]))
            return Delay(**common, delays=tuple(delays))


def codes_for(layout: Layout, *shape: int, seed: int = 0) -> Tensor:
    """(*shape[:-1], K, shape[-1]) of random codes; the first and the last code of a codebook are frequent."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for size in layout.codebook_sizes:
        row = torch.randint(size, shape, generator=generator)
        edge = torch.randint(4, shape, generator=generator)
        rows.append(torch.where(edge == 0, 0, torch.where(edge == 1, size - 1, row)))
    return torch.stack(rows, dim=-2)


def places(layout: Layout, num_frames: int) -> Iterator[tuple[int, int, int, int]]:
    """(row, step, codebook, frame) of every code, by the words of the layout's definition and not by its formula."""
    K, N = layout.num_codebooks, num_frames
    if isinstance(layout, Parallel):
        yield from ((k, n, k, n) for k in range(K) for n in range(N))
    elif isinstance(layout, Delay):
        yield from ((k, n + layout.delays[k], k, n) for k in range(K) for n in range(N))
    elif isinstance(layout, Flat):
        order = ((k, n) for n in range(N) for k in range(K))
        yield from ((0, step, k, n) for step, (k, n) in enumerate(order))
    else:
        assert isinstance(layout, CoarseFirst)
        chunk = layout.chunk_frames or max(N, 1)
        groups, first = [], 0
        for size in layout.groups:
            groups.append(range(first, first + size))
            first += size
        step = 0
        for start in range(0, N, chunk):
            for group in groups:
                for n in range(start, min(start + chunk, N)):
                    for k in group:
                        yield 0, step, k, n
                        step += 1
