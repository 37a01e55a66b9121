"""Layouts against tables written out by hand from the papers they are named after."""

import pytest
import torch

from vqaudio.layouts import CoarseFirst, Delay, Flat, Layout, Parallel, Split, TokenError

# Codes whose digits say where they are: 312 is codebook 3, frame 12 (both counted from 1, as in the papers).
CODES = torch.tensor(
    [
        [101, 102, 103, 104, 105],
        [201, 202, 203, 204, 205],
        [301, 302, 303, 304, 305],
        [401, 402, 403, 404, 405],
    ]
)
SIZES = (1024,) * 4
P, B, E = 1024, 1025, 1026  # pad, begin, end of a stacked layout


def test_delay_is_that_of_musicgen() -> None:
    """Copet et al., arXiv 2306.05284, figure 1, "delay": codebook k at step s is frame s - k + 1; its 0 is pad here."""
    layout = Delay(codebook_sizes=SIZES)
    table = [
        [101, 102, 103, 104, 105, P, P, P],
        [P, 201, 202, 203, 204, 205, P, P],
        [P, P, 301, 302, 303, 304, 305, P],
        [P, P, P, 401, 402, 403, 404, 405],
    ]
    assert layout.to_tokens(CODES).tolist() == table
    assert layout.to_codes(table).equal(CODES)
    assert layout.special_ids == {"pad": P, "begin": B, "end": E}
    # Its code puts a step without codes before the first: here that is a step of begin.
    (wrapped,) = layout.batch([table], begin=True, end=True).tokens.tolist()
    assert wrapped == [[B, *row, E] for row in table]
    # Stopped after step 6, as a model is when its time is up: three frames are whole.
    reading = layout.read([row[:6] for row in table])
    assert reading.codes.equal(CODES[:, :3])
    assert reading.report.startswith("the sequence ends at position 6, and codebook 3 of frame 3 is not there yet")


def test_parallel_is_that_of_musicgen() -> None:
    """Figure 1, "parallel"."""
    assert Parallel(codebook_sizes=SIZES).to_tokens(CODES).equal(CODES)


def test_flat_is_that_of_musicgen_and_audiolm() -> None:
    """MusicGen's figure 1, "flattening", has no offsets; AudioLM (arXiv 2209.03143, III-C) flattens in the same order,
    row by row of its (frame, quantizer) matrix, and tells quantizers apart by offsets of N, the size of one."""
    codes = CODES[:3, :2]
    plain, offset = (Flat(codebook_sizes=SIZES[:3], offsets=on) for on in (False, True))
    assert plain.to_tokens(codes).tolist() == [101, 201, 301, 102, 202, 302]
    assert offset.to_tokens(codes).tolist() == [101, 1024 + 201, 2048 + 301, 102, 1024 + 202, 2048 + 302]
    assert plain.special_ids == {"pad": 1024, "begin": 1025, "end": 1026}
    assert offset.special_ids == {"pad": 3072, "begin": 3073, "end": 3074}
    assert (plain.vocab_size, offset.vocab_size) == (1027, 3075)
    assert offset.tokens_per_second(50) == 150


def test_coarse_first_is_the_order_of_audiolms_two_stages() -> None:
    """Coarse: quantizers 1 to Q' = 2, frame by frame; then fine: Q' + 1 to Q, frame by frame, given the coarse."""
    codes = CODES[:, :3]
    a, b, c = 1024, 2048, 3072
    layout = CoarseFirst(codebook_sizes=SIZES, groups=(2, 2))
    coarse = [101, a + 201, 102, a + 202, 103, a + 203]
    fine = [b + 301, c + 401, b + 302, c + 402, b + 303, c + 403]
    assert layout.to_tokens(codes).tolist() == coarse + fine
    assert layout.to_codes(coarse + fine).equal(codes)
    # AudioLM's fine stage works on chunks of 3 seconds: of 2 frames here, and the last one has one.
    chunked = CoarseFirst(codebook_sizes=SIZES, groups=(2, 2), chunk_frames=2)
    assert chunked.to_tokens(codes).tolist() == coarse[:4] + fine[:4] + coarse[4:] + fine[4:]
    assert chunked.to_codes(coarse[:4] + fine[:4] + coarse[4:] + fine[4:]).equal(codes)
    # One codebook after the other.
    whole = CoarseFirst(codebook_sizes=SIZES[:2])
    assert whole.to_tokens(codes[:2]).tolist() == [101, 102, 103, a + 201, a + 202, a + 203]


def test_split_is_that_of_valle() -> None:
    """Wang et al., arXiv 2301.02111: c_{:,1} and <EOS> by the autoregressive model; c_{:,j}, j = 2 … 8, row by row."""
    layout = Split(codebook_sizes=SIZES)
    coarse, fine = layout.to_tokens(CODES)
    assert coarse.tolist() == [101, 102, 103, 104, 105]
    assert fine.tolist() == CODES[1:].tolist()
    assert layout.coarse.batch([coarse], end=True).tokens.tolist() == [[101, 102, 103, 104, 105, 1026]]
    assert layout.coarse.special_ids["end"] == 1026
    assert layout.to_codes(layout.to_tokens(CODES)).equal(CODES)
    # AudioLM's two stages as two models.
    audiolm = Split(codebook_sizes=SIZES, num_coarse=2, fine_kind="flat").to_tokens(CODES[:, :2])
    assert audiolm.coarse.tolist() == [101, 1024 + 201, 102, 1024 + 202]
    assert audiolm.fine.tolist() == [301, 1024 + 401, 302, 1024 + 402]


def test_delays_need_not_be_steps_of_one() -> None:
    """Dia's are 0, 8, 9, …, 15; Moshi delays all acoustic codebooks by one. Order does not matter either."""
    moshi = Delay(codebook_sizes=SIZES, delays=(0, 1, 1, 1))
    assert moshi.to_tokens(CODES[:, :2]).tolist() == [[101, 102, P], [P, 201, 202], [P, 301, 302], [P, 401, 402]]
    dia = Delay(codebook_sizes=SIZES[:3], delays=(0, 8, 9))
    tokens = dia.to_tokens(CODES[:3, :2])  # steps 2 to 7 hold no code at all
    assert tokens[0].tolist() == [101, 102, *[P] * 9]
    assert tokens[2].tolist() == [*[P] * 9, 301, 302]
    assert dia.to_codes(tokens).equal(CODES[:3, :2])


def test_one_codebook_appended_to_a_text_vocabulary() -> None:
    """Llasa's way: an id is the size of the text vocabulary and the code."""
    layout = Flat(codebook_sizes=(65536,), first_id=128_256)
    assert layout.to_tokens([[0, 1, 65535]]).tolist() == [128_256, 128_257, 193_791]
    assert layout.special_ids == {"pad": 193_792, "begin": 193_793, "end": 193_794}
    assert layout.vocab_size == 193_795
    with pytest.raises(
        TokenError, match=r"position 1 holds id 7 \(no audio: its ids are 128256 to 193794\); valid ther"
    ):
        layout.to_codes([128_256, 7])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flat(codebook_sizes=()), r"codebook_sizes is \(\); wanted is one size or more"),
        (lambda: Parallel(codebook_sizes=(8, 0)), "from 1 to 2"),
        (lambda: Flat(codebook_sizes=(8,), first_id=-1), "first_id is -1; it is 0, or the size of the vocabulary"),
        (lambda: Flat(codebook_sizes=(8,), extra_specials=("end",)), "none of them is pad, begin, end"),
        (lambda: Delay(codebook_sizes=(8, 8), delays=(0,)), r"there are 2 codebooks, and 1 delays: \(0,\)"),
        (lambda: Delay(codebook_sizes=(8, 8), delays=(1, 2)), "they count from 0 on, and one of them is 0"),
        (lambda: Delay(codebook_sizes=(8, 8), delays=(0, -1)), "they count from 0 on"),
        (lambda: CoarseFirst(codebook_sizes=(8, 8, 8), groups=(2, 2)), "one codebook or more, in all 3"),
        (lambda: CoarseFirst(codebook_sizes=(8, 8), groups=(2, 0)), "one codebook or more"),
        (lambda: CoarseFirst(codebook_sizes=(8, 8), chunk_frames=0), "chunk_frames is 0"),
        (lambda: Split(codebook_sizes=(8,)), "num_coarse is 1; of 1 codebooks, 1 to 0 can be coarse"),
        (lambda: Split(codebook_sizes=(8, 8), num_coarse=2), "of 2 codebooks, 1 to 1 can be coarse"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(make: object, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("layout", [Flat(codebook_sizes=(8, 4)), Delay(codebook_sizes=(8, 4))])
def test_what_is_given_is_checked_at_the_door(layout: Layout) -> None:
    for values, message in (
        ([[0, 8], [0, 0]], "codebook 0 of frame 1 holds code 8; its codes are 0 to 7"),
        ([[[0], [0]], [[0], [-1]]], "codebook 1 of frame 0 of item 1 holds code -1; its codes are 0 to 3"),
        ([[0, 1]], r"codes have shape \(1, 2\); wanted is \(B, 2, N\) or \(2, N\)"),
        ([[0.0], [1.0]], "codes are integers, and these are float64"),
        (torch.zeros(2, 3), "codes are integers, and these are torch.float32"),
        (torch.zeros(2, 3, dtype=torch.bool), "these are torch.bool"),
        ([[0, 1], [1]], "codes are lists of different lengths; give them one by one, or as a batch"),
    ):
        with pytest.raises(TokenError, match=message):
            layout.to_tokens(values)
    with pytest.raises(TokenError, match=r"tokens have shape \(1, 1, 1, 1\); wanted is one sequence"):
        layout.read([[[[1]]]])
    with pytest.raises(TokenError, match="invalid is 'drop'; expected one of refuse, cut, clamp"):
        layout.to_codes([0, 8] if not layout.stacked else [[0, 8], [8, 0]], invalid="drop")  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="step -1 of None frames: neither can be negative"):
        layout.valid_ids(-1)
