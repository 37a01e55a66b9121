"""What every layout promises: exact inverses, ids that mean one thing, and sequences that cannot slip."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.layouts.cases import KINDS, codes_for, layouts, places
from vqaudio.layouts import CoarseFirst, Layout, Parallel, TokenError, TokenWarning

LENGTHS = st.integers(0, 9)


def rows_of(layout: Layout, tokens: Tensor) -> Tensor:
    """A sequence as (rows, L)."""
    return tokens if layout.stacked else tokens[None]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), num_frames=LENGTHS, batch=st.integers(1, 3), seed=st.integers(0, 99))
def test_to_codes_is_the_inverse_of_to_tokens(
    kind: str, data: st.DataObject, num_frames: int, batch: int, seed: int
) -> None:
    layout = data.draw(layouts(kind))
    codes = codes_for(layout, batch, num_frames, seed=seed)
    tokens = layout.to_tokens(codes)
    L = layout.num_steps(num_frames)
    assert tokens.shape == ((batch, layout.num_codebooks, L) if layout.stacked else (batch, L))
    assert tokens.dtype == torch.int64
    assert layout.to_codes(tokens).equal(codes)
    for item, sequence in zip(codes, tokens, strict=True):
        assert layout.to_tokens(item).equal(sequence)
        assert layout.to_codes(sequence).equal(item)
        assert layout.to_codes(sequence.numpy().astype(np.uint32)).equal(item)
        assert layout.to_codes(sequence.tolist() if L else sequence).equal(item)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), num_frames=LENGTHS)
def test_every_code_stands_where_the_definition_puts_it(kind: str, data: st.DataObject, num_frames: int) -> None:
    layout = data.draw(layouts(kind))
    codes = codes_for(layout, num_frames)
    tokens = rows_of(layout, layout.to_tokens(codes))
    expected = torch.full_like(tokens, layout.special_ids["pad"])
    for row, step, codebook, frame in places(layout, num_frames):
        expected[row, step] = layout.code_offsets[codebook] + codes[codebook, frame]
        assert layout.codebooks_at(step, num_frames)[row] == codebook
        if not isinstance(layout, CoarseFirst):
            assert layout.codebooks_at(step, None)[row] == codebook
    assert tokens.equal(expected)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data())
def test_an_id_is_one_thing(kind: str, data: st.DataObject) -> None:
    """Within a row ids and codes, and ids and specials, are one to one, and together they are the vocabulary."""
    layout = data.draw(layouts(kind))
    ids = [
        {first + code for code in range(size)}
        for first, size in zip(layout.code_offsets, layout.codebook_sizes, strict=True)
    ]
    specials = list(layout.special_ids.values())
    assert list(layout.special_ids)[:3] == ["pad", "begin", "end"]
    assert len(set(specials)) == len(specials)
    assert not set(specials) & set().union(*ids)
    assert set().union(*ids) | set(specials) == set(range(layout.first_id, layout.vocab_size))
    if len(set(layout.code_offsets)) == layout.num_codebooks:
        assert all(not one & other for one, other in itertools.combinations(ids, 2))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(data=st.data(), num_frames=st.integers(1, 4), seed=st.integers(0, 9))
def test_a_sequence_cut_anywhere_gives_the_whole_frames_or_is_refused(
    kind: str, data: st.DataObject, num_frames: int, seed: int
) -> None:
    layout = data.draw(layouts(kind))
    codes = codes_for(layout, num_frames, seed=seed)
    tokens = layout.to_tokens(codes)
    L = tokens.shape[-1]
    for length in range(L):
        part = tokens[..., :length]
        last = {}  # frame -> whether all of it is there
        for _, step, _, frame in places(layout, num_frames):
            last[frame] = last.get(frame, True) and step < length
        whole = next((frame for frame in range(num_frames) if not last[frame]), num_frames)
        reading = layout.read(part)
        assert reading.codes.equal(codes[:, :whole]), (length, whole)
        ends_a_frame = length == layout.num_steps(whole) and layout.to_tokens(codes[:, :whole]).equal(part)
        assert bool(reading.problems) != ends_a_frame
        if reading.problems:
            assert 0 <= reading.problems[0].position <= length
            with pytest.raises(TokenError, match="position"):
                layout.to_codes(part)
            with pytest.warns(TokenWarning, match=f"read: {whole} whole frame"):
                assert layout.to_codes(part, invalid="cut").equal(codes[:, :whole])


def wrong_ids(layout: Layout, codebook: int) -> list[int]:
    """Every kind of id that cannot stand for a code of a codebook; all of them if they are few."""
    first = layout.code_offsets[codebook]
    valid = range(first, first + layout.codebook_sizes[codebook])
    others = [-100, -1, 2**40, layout.vocab_size, *layout.special_ids.values(), layout.first_id - 1]
    others += [id for id in (*range(layout.first_id, layout.first_id + 6), first - 1, valid.stop) if id not in valid]
    return sorted(set(others) - set(valid))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=4)
@given(data=st.data(), num_frames=st.integers(1, 5))
def test_every_invalid_id_is_found_where_it_stands(kind: str, data: st.DataObject, num_frames: int) -> None:
    layout = data.draw(layouts(kind))
    pad, begin, end = (layout.special_ids[name] for name in ("pad", "begin", "end"))
    codes = codes_for(layout, num_frames)
    tokens = layout.to_tokens(codes)
    place = data.draw(st.sampled_from(list(places(layout, num_frames))))
    row, step, codebook, frame = place
    at = (row, step) if layout.stacked else (step,)
    for wrong in wrong_ids(layout, codebook):
        # At the ends of one row, and in a step of one row in the middle, some specials are no mistake but mean it.
        whole_step = not layout.stacked or layout.num_codebooks == 1
        if whole_step and (wrong in (pad, end) or (wrong == begin and step == 0)):
            continue
        broken = tokens.clone()
        broken[at] = wrong
        # A pad may be taken for the end of its row, and a code of a later group for the end of its chunk's first.
        known_place = wrong != pad and not isinstance(layout, CoarseFirst)
        message = rf"position {step}( of row {row})? holds id {wrong} \(" if known_place else "position"
        with pytest.raises(TokenError, match=message):
            layout.to_codes(broken)
        reading = layout.read(broken)
        assert reading.codes.equal(codes[:, : reading.num_frames])
        assert reading.num_frames == frame or (reading.num_frames < frame and isinstance(layout, CoarseFirst))


@pytest.mark.parametrize("kind", ["flat", "coarse-first", "groups", "chunks"])
@settings(max_examples=12)
@given(data=st.data(), num_frames=st.integers(1, 6), seed=st.integers(0, 9))
def test_with_offsets_a_lost_or_doubled_token_is_always_found(
    kind: str, data: st.DataObject, num_frames: int, seed: int
) -> None:
    layout = data.draw(layouts(kind, data.draw(st.sampled_from([(3, 7), (2, 1, 1024), (5, 5, 5, 5)]))))
    codes = codes_for(layout, num_frames, seed=seed)
    tokens = layout.to_tokens(codes)
    at = data.draw(st.integers(0, len(tokens) - 1))
    for broken in (torch.cat([tokens[:at], tokens[at + 1 :]]), torch.cat([tokens[: at + 1], tokens[at:]])):
        with pytest.raises(TokenError, match="position"):
            layout.to_codes(broken)
        reading = layout.read(broken)
        sure = reading.num_frames
        if isinstance(layout, CoarseFirst):  # in a run of one codebook a lost token and an early end look alike
            chunk = layout.chunk_frames or num_frames
            sure = min(sure, at // (chunk * layout.num_codebooks) * chunk)
        assert reading.codes[:, :sure].equal(codes[:, :sure])
        if kind == "flat":
            assert reading.num_frames in (at // layout.num_codebooks, (at + 1) // layout.num_codebooks)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), num_frames=LENGTHS, extra=st.integers(0, 3))
def test_padding_begin_and_end_are_left_out(kind: str, data: st.DataObject, num_frames: int, extra: int) -> None:
    layout = data.draw(layouts(kind))
    codes = codes_for(layout, num_frames)
    tokens = layout.to_tokens(codes)
    step = tokens.new_ones((*tokens.shape[:-1], 1))
    pads, begin, end = (step * layout.special_ids[name] for name in ("pad", "begin", "end"))
    padding = [pads] * extra
    for parts in ([begin, tokens, end], [*padding, begin, tokens], [tokens, end, *padding], [tokens, *padding]):
        assert layout.to_codes(torch.cat(parts, dim=-1)).equal(codes)
    after = torch.cat([tokens, end, *padding, pads * 0 + layout.code_offsets[0]], dim=-1)
    with pytest.raises(TokenError, match=f"valid there, after the end at {tokens.shape[-1]}: "):
        layout.to_codes(after)
    assert layout.read(after).codes.equal(codes)


# ---- while a model writes


def sampled(mask: Tensor, generator: torch.Generator) -> Tensor:
    """One valid id for each row, every one of them as likely."""
    return torch.multinomial(mask.float().view(-1, mask.shape[-1]), 1, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), num_steps=st.integers(0, 30), seed=st.integers(0, 99))
def test_sampling_from_the_valid_ids_always_decodes(kind: str, data: st.DataObject, num_steps: int, seed: int) -> None:
    layout = data.draw(layouts(kind))
    if isinstance(layout, CoarseFirst) and layout.chunk_frames is None:
        with pytest.raises(TokenError, match="say how many"):
            layout.valid_ids(0)
        return
    generator = torch.Generator().manual_seed(seed)
    steps = [torch.zeros(layout.num_codebooks if layout.stacked else 1, 0, dtype=torch.int64)]
    ended = False
    for step in range(num_steps):
        steps.append(sampled(layout.valid_ids(step), generator))
        if ended := bool((steps[-1] == layout.special_ids["end"]).any()):
            break
    tokens = torch.cat(steps, dim=1)
    reading = layout.read(tokens if layout.stacked else tokens[0])
    assert not (ended and reading.problems)  # an end is valid only where it may stand
    late = max(layout.num_steps(1) - 1, 0) if layout.stacked else 0
    chunk = getattr(layout, "chunk_frames", None) or 1
    assert reading.num_frames >= (tokens.shape[1] - late) * len(tokens) // layout.num_codebooks - chunk
    assert all(problem.id is None or layout.stacked for problem in reading.problems)  # it ends within a frame, no more
    assert layout.to_codes(layout.to_tokens(reading.codes)).equal(reading.codes)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), num_frames=LENGTHS, extra=st.integers(0, 3), seed=st.integers(0, 99))
def test_with_a_length_the_valid_ids_lead_to_it(
    kind: str, data: st.DataObject, num_frames: int, extra: int, seed: int
) -> None:
    layout = data.draw(layouts(kind))
    generator = torch.Generator().manual_seed(seed)
    num_steps = layout.num_steps(num_frames) + 1 + extra
    tokens = torch.cat([sampled(layout.valid_ids(step, num_frames), generator) for step in range(num_steps)], dim=1)
    assert (tokens[:, layout.num_steps(num_frames)] == layout.special_ids["end"]).all()
    codes = layout.to_codes(tokens if layout.stacked else tokens[0])
    assert codes.shape == (layout.num_codebooks, num_frames)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(data=st.data(), num_frames=LENGTHS)
def test_what_to_tokens_writes_is_valid_at_every_step(kind: str, data: st.DataObject, num_frames: int) -> None:
    layout = data.draw(layouts(kind))
    tokens = rows_of(layout, layout.to_tokens(codes_for(layout, num_frames)))
    for step in range(tokens.shape[1]):
        mask = layout.valid_ids(step, num_frames).view(len(tokens), -1)
        assert mask.gather(1, tokens[:, step, None]).all()
        assert mask.sum() == sum(
            1 if codebook is None else layout.codebook_sizes[codebook]
            for codebook in layout.codebooks_at(step, num_frames)
        )


# ---- rates


@given(layout=layouts(), rate=st.fractions(1, 100), num_frames=st.integers(50, 60))
def test_rates_are_exact(layout: Layout, rate: Fraction, num_frames: int) -> None:
    assert layout.tokens_per_frame == layout.num_steps(num_frames + 1) - layout.num_steps(num_frames)
    assert layout.tokens_per_second(rate) == rate * layout.tokens_per_frame
    assert isinstance(layout.tokens_per_second(50), Fraction)


def test_parallel_takes_no_id_of_another_row() -> None:
    """A codebook of 4 beside one of 8: id 6 is a code in one row, and none in the other."""
    layout = Parallel(codebook_sizes=(4, 8))
    assert layout.special_ids == {"pad": 8, "begin": 9, "end": 10}
    with pytest.raises(
        TokenError, match=r"position 1 of row 0 holds id 6 \(code 6\); valid there: 0 to 3 \(codebook 0"
    ):
        layout.to_codes([[0, 6], [7, 6]])
