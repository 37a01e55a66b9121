"""Tokens that are not as they should be: refused, cut or clamped, and always said; and batches."""

import warnings

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.layouts.cases import KINDS, codes_for, layouts
from vqaudio.layouts import Delay, Flat, Parallel, Split, SplitTokens, TokenError, TokenWarning

FLAT = Flat(codebook_sizes=(10, 20))  # codebook 0: ids 0 to 9; codebook 1: 10 to 29; pad 30, begin 31, end 32
DELAY = Delay(codebook_sizes=(10, 20))  # pad 20, begin 21, end 22


def test_refuse_tells_position_id_and_what_is_valid() -> None:
    for tokens, message in (
        ([0, 10, 1, 33], r"position 3 holds id 33 \(no audio: its ids are 0 to 32\); valid there: 10 to 29 \(codebook "
                         r"1 of frame 1\); invalid='cut' keeps the 1 whole frame before it"),
        ([0, 10, 11], r"position 2 holds id 11 \(code 1 of codebook 1\); valid there: 0 to 9 \(codebook 0 of "),
        ([0, 10, 30, 0, 10], r"position 2 holds id 30 \(pad\); valid there: 0 to 9"),
        ([0, 10, 31], r"position 2 holds id 31 \(begin\)"),
        ([-100, 10], r"position 0 holds id -100 \(no audio"),
        ([31, 0, 10, 4], "the sequence ends at position 4, and codebook 1 of frame 1 is not there yet; invalid='cut' "
                         "keeps the 1 whole frame before it"),
        ([0, 32], "the sequence ends at position 1, and codebook 1 of frame 0 is not there yet; .* keeps nothing"),
        ([0, 10, 32, 30, 5], r"position 4 holds id 5 \(code 5 of codebook 0\); valid there, after the end at 2: 30"),
    ):  # fmt: skip
        with pytest.raises(TokenError, match=message):
            FLAT.to_codes(tokens)
    with pytest.raises(
        TokenError, match=r"position 2 of row 1 holds id 20 \(pad\); valid there: 0 to 19 \(codebook 1 of"
    ):
        DELAY.to_codes([[0, 1, 2, 20], [20, 3, 20, 5]])
    with pytest.raises(TokenError, match=r"position 0 of row 1 holds id 4 \(code 4\); valid there: 20 \(pad\)"):
        DELAY.to_codes([[0, 20], [4, 3]])
    with pytest.raises(TokenError, match=r"^item 1: position 0 holds id 99"):
        FLAT.to_codes([[0, 10], [99, 10]])


def test_cut_keeps_whole_frames_and_says_where_it_cut() -> None:
    reading = FLAT.read([0, 10, 1, 11, 2, 7, 3, 13])
    assert reading.codes.tolist() == [[0, 1], [0, 1]]
    (problem,) = reading.problems
    assert (problem.position, problem.row, problem.id) == (5, None, 7)
    with pytest.warns(TokenWarning, match=r"position 5 holds id 7 .*; read: 2 whole frames"):
        assert FLAT.to_codes([0, 10, 1, 11, 2, 7, 3, 13], invalid="cut").equal(reading.codes)
    reading = DELAY.read([[0, 1, 99, 3, 20], [20, 5, 6, 7, 8]])
    assert reading.codes.tolist() == [[0, 1], [5, 6]]
    assert (reading.problems[0].position, reading.problems[0].row) == (2, 0)


def test_clamp_tells_each_change() -> None:
    tokens = [[0, 12, 2, -5], [3, 4, 99, 6]]
    reading = Parallel(codebook_sizes=(10, 20)).read(tokens, invalid="clamp")
    assert reading.codes.tolist() == [[0, 9, 2, 0], [3, 4, 19, 6]]
    assert [(p.position, p.row, p.id, p.changed_to) for p in reading.problems] == [
        (1, 0, 12, 9), (2, 1, 99, 19), (3, 0, -5, 0),
    ]  # fmt: skip
    assert "position 1 of row 0 holds id 12 (code 12); valid there: 0 to 9 (codebook 0 of frame 1); changed to 9; " in (
        reading.report
    )
    many = FLAT.read([99] * 9, invalid="clamp")
    assert many.codes.tolist() == [[9] * 4, [19] * 4]  # the last frame is not complete
    assert many.report.endswith("; and 7 more; read: 4 whole frames")
    with pytest.warns(TokenWarning, match="changed to 9"):
        FLAT.to_codes([[99, 10]], invalid="clamp")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data(), seed=st.integers(0, 99), length=st.integers(0, 20))
def test_anything_at_all_reads_as_some_codes_or_is_refused(
    kind: str, data: st.DataObject, seed: int, length: int
) -> None:
    layout = data.draw(layouts(kind))
    shape = (layout.num_codebooks, length) if layout.stacked else (length,)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(layout.first_id - 2, layout.vocab_size + 2, shape, generator=generator)
    cut, clamped = (layout.read(tokens, invalid=policy) for policy in ("cut", "clamp"))
    for reading in (cut, clamped):
        again = layout.to_tokens(reading.codes)  # which refuses what is out of range
        assert layout.to_codes(again).equal(reading.codes)
    assert cut.codes.equal(clamped.codes[:, : cut.num_frames])
    assert bool(cut.problems) == bool(clamped.problems)
    if not cut.problems:
        assert layout.to_codes(tokens).equal(cut.codes)
    else:
        with pytest.raises(TokenError, match="position"):
            layout.to_codes(tokens)


def test_good_tokens_come_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for policy in ("refuse", "cut", "clamp"):
            assert FLAT.to_codes([0, 10, 9, 29], invalid=policy).tolist() == [[0, 9], [0, 19]]  # type: ignore[arg-type]
    assert FLAT.read([0, 10]).report == ""


def test_items_of_other_lengths_are_no_tensor() -> None:
    batch = FLAT.batch([[0, 10, 1, 11], [2, 12]])
    with pytest.raises(TokenError, match=r"items have 1 to 2 frames.*take them one by one"):
        FLAT.to_codes(batch.tokens)
    assert [FLAT.to_codes(item).tolist() for item in batch.sequences()] == [[[0, 1], [0, 1]], [[2], [2]]]
    assert FLAT.to_codes(torch.zeros(0, 4, dtype=torch.int64)).shape == (0, 2, 0)


# ---- batches


def test_a_batch_says_what_is_padding_and_what_counts() -> None:
    batch = FLAT.batch([[0, 10, 1, 11], [2, 12]], begin=True, end=True)
    assert batch.tokens.tolist() == [[31, 0, 10, 1, 11, 32], [31, 2, 12, 32, 30, 30]]
    assert batch.lengths.tolist() == [6, 4]
    assert batch.mask.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert batch.labels().tolist() == [[-100, 0, 10, 1, 11, 32], [-100, 2, 12, 32, -100, -100]]
    left = FLAT.batch([[0, 10, 1, 11], [2, 12]], begin=True, side="left", multiple_of=8)
    assert left.tokens.tolist() == [[30, 30, 30, 31, 0, 10, 1, 11], [30, 30, 30, 30, 30, 31, 2, 12]]
    assert left.mask.sum(dim=1).tolist() == left.lengths.tolist() == [5, 3]
    assert left.labels(ignore=-1)[1].tolist() == [-1, -1, -1, -1, -1, -1, 2, 12]


def test_the_fill_of_delays_counts_for_nothing() -> None:
    batch = DELAY.batch([DELAY.to_tokens([[1, 2], [3, 4]])], end=True)
    assert batch.tokens.tolist() == [[[1, 2, 20, 22], [20, 3, 4, 22]]]
    assert batch.mask.tolist() == [[True] * 4]
    assert batch.loss_mask.tolist() == [[[True, True, False, True], [False, True, True, True]]]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(
    data=st.data(),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    begin=st.booleans(),
    end=st.booleans(),
    side=st.sampled_from(["right", "left"]),
)
def test_batches_come_apart_again(
    kind: str, data: st.DataObject, lengths: list[int], begin: bool, end: bool, side: str
) -> None:
    layout = data.draw(layouts(kind))
    codes = [codes_for(layout, length, seed=length) for length in lengths]
    tokens = [layout.to_tokens(item) for item in codes]
    batch = layout.batch(tokens, begin=begin, end=end, side=side, multiple_of=3)  # type: ignore[arg-type]
    assert batch.tokens.shape[-1] % 3 == 0
    for item, row, sequence in zip(codes, batch.tokens, batch.sequences(), strict=True):
        assert layout.to_codes(row).equal(item)  # with its padding
        assert layout.to_codes(sequence).equal(item)
    counted = sum(item.numel() for item in codes) + end * len(codes) * (layout.num_codebooks if layout.stacked else 1)
    assert batch.loss_mask.sum() == counted


def test_batches_refuse_what_does_not_belong_together() -> None:
    with pytest.raises(TokenError, match="there are no sequences"):
        FLAT.batch([])
    with pytest.raises(TokenError, match=r"sequence 1 has shape \(2, 1\); wanted is \(L,\)"):
        FLAT.batch([[0, 10], [[0], [10]]])
    with pytest.raises(TokenError, match="side is 'top'; expected right or left"):
        FLAT.batch([[0, 10]], side="top")  # type: ignore[arg-type]


# ---- split


def test_the_halves_of_a_split_must_agree() -> None:
    layout = Split(codebook_sizes=(10, 20, 20))
    codes = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    coarse, fine = layout.to_tokens(codes)
    short = SplitTokens(coarse[:2], fine)
    with pytest.raises(
        TokenError, match="the coarse sequence has 2 frames, and the fine one 3; invalid='cut' keeps the 2"
    ):
        layout.to_codes(short)
    with pytest.warns(TokenWarning, match="read: 2 whole frames"):
        assert layout.to_codes(short, invalid="cut").equal(codes[:, :2])
    with pytest.raises(TokenError, match="fine: position 1 of row 0 holds id 99"):
        layout.to_codes(SplitTokens(coarse, torch.where(fine == 5, 99, fine)))
    with pytest.raises(TokenError, match=r"codes have shape \(2, 3\); wanted is \(B, 3, N\)"):
        layout.to_tokens(codes[:2])
    batch = torch.stack([codes, codes.flip(-1)])
    assert layout.to_codes(layout.to_tokens(batch)).equal(batch)
