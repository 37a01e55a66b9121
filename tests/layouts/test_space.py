"""TokenSpace: the same codes on both sides or a refusal in words, and its file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.layouts.cases import layouts
from tests.tiny import noise, tiny_tokenizer
from vqaudio import TokenSpace
from vqaudio.codes import Codes, CodesError
from vqaudio.layouts import CoarseFirst, Delay, Flat, Layout, Parallel, Split, TokenError, TokenWarning

SIZES = (32, 32, 32)
FINGERPRINT = "0123456789abcdef" * 4


def codes_of(num_samples: int = 930, *, channels: int = 1, source_sample_rate: int = 1_600) -> Codes:
    """Codes of the tiny tokenizer: hop 20 at 1,600 Hz."""
    audio = noise(channels, num_samples)
    return tiny_tokenizer("rvq-projected").encode(audio, source_sample_rate, channels="keep")


@pytest.mark.parametrize(
    "layout",
    [
        Flat(codebook_sizes=SIZES, first_id=500, extra_specials=("mask",)),
        Flat(codebook_sizes=SIZES, offsets=False),
        CoarseFirst(codebook_sizes=SIZES, groups=(1, 2), chunk_frames=5),
        Parallel(codebook_sizes=SIZES),
        Delay(codebook_sizes=SIZES, delays=(0, 3, 1)),
    ],
)
def test_codes_come_back_with_all_that_belongs_to_them(layout: Any, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    space = TokenSpace.of(tokenizer, layout)
    codes = codes_of(1_001, channels=2, source_sample_rate=2_205)
    tokens = space.to_tokens(codes, begin=True, end=True)
    assert tokens.shape[0] == 2
    lengths = {
        "num_samples": codes.num_samples, "source_sample_rate": 2_205, "source_num_samples": 1_001,
    }  # fmt: skip
    assert space.to_codes(tokens, **lengths) == codes
    assert space.to_codes(tokens[1], **lengths).values.equal(codes.values[1:])
    space.save(tmp_path / "space.json")
    assert TokenSpace.load(tmp_path / "space.json", expected=space) == space
    tokenizer.decode(space.to_codes(tokens))


def test_without_a_length_the_last_frame_is_whole() -> None:
    codes = codes_of(930)
    space = TokenSpace.of(codes, Flat(codebook_sizes=SIZES))
    again = space.to_codes(space.to_tokens(codes))
    assert (again.num_samples, again.source_sample_rate, again.source_num_samples) == (940, 1_600, 940)
    assert space.to_codes([]).num_frames == 0


def test_a_length_finds_a_lost_frame() -> None:
    """Of a flat sequence any whole frame may be missing, and nothing but its length can tell."""
    codes = codes_of(930)
    space = TokenSpace.of(codes, Flat(codebook_sizes=SIZES))
    tokens = space.to_tokens(codes)[0, 3:]
    with pytest.raises(CodesError, match="there are 46 frames of codes, and 930 samples at hop 20 are 47"):
        space.to_codes(tokens, num_samples=930)
    with pytest.warns(TokenWarning, match="930 samples were 47 frames, and 46 are there"):
        assert space.to_codes(tokens, num_samples=930, invalid="cut").num_samples == 46 * 20


def test_codes_of_another_tokenizer_are_refused() -> None:
    codes = codes_of()
    space = TokenSpace.of(codes, Flat(codebook_sizes=SIZES))
    other = replace(codes, token_fingerprint="f" * 64)
    difference = f"token_fingerprint is {codes.token_fingerprint} here and {'f' * 64} there"
    with pytest.raises(TokenError, match=f"^these tokens stand for other codes: {difference}$"):
        space.to_tokens(other)
    with pytest.raises(TokenError, match=r"hop_length is 20 here and 10 there; codebook_sizes from codebook 0 on is "
                                         r"\(32, 32, 32\) here and \(32,\) there"):  # fmt: skip
        space.check_codes_of(replace(codes.prefix(1), hop_length=10, num_samples=470, source_num_samples=470))
    with pytest.raises(TokenError, match=r"codebook_sizes from codebook 0 on is \(32, 64\) here and \(32, 32\) there"):
        TokenSpace.of(codes, Flat(codebook_sizes=(32, 64)))


def test_every_difference_is_named_here_and_there() -> None:
    space = TokenSpace.of(codes_of(), Flat(codebook_sizes=SIZES))
    space.check_same(replace(space))
    differences = "layout.first_id is 0 here and 32000 there; padded_vocab_size is None here and 33000 there"
    with pytest.raises(TokenError, match=f"^the token spaces differ: {differences}$"):
        space.check_same(replace(space, layout=Flat(codebook_sizes=SIZES, first_id=32_000), padded_vocab_size=33_000))
    with pytest.raises(TokenError, match=r"layout.kind is flat here and delay there; .*layout.delays is absent here"):
        space.check_same(replace(space, layout=Delay(codebook_sizes=SIZES)))


def test_a_coarse_and_a_fine_stage_have_spaces_of_their_own() -> None:
    codes = codes_of()
    split = Split(codebook_sizes=SIZES)
    coarse = TokenSpace.of(codes, split.coarse)
    fine = TokenSpace.of(codes, split.fine, first_codebook=1)
    first = coarse.to_codes(coarse.to_tokens(codes))
    assert first.values.equal(codes.prefix(1).values)
    both = fine.to_codes(fine.to_tokens(codes), coarse=first)
    assert both.values.equal(codes.values) and both.codebook_sizes == SIZES
    with pytest.raises(TokenError, match="these tokens are of codebook 1 on: give the codes before as `coarse`"):
        fine.to_codes(fine.to_tokens(codes))
    with pytest.raises(TokenError, match=r"the coarse codes have shape \(1, 2, 47\); wanted is \(1, 1, 47\)"):
        fine.to_codes(fine.to_tokens(codes), coarse=codes.prefix(2))
    with pytest.raises(TokenError, match="the coarse codes are another tokenizer's"):
        fine.to_codes(fine.to_tokens(codes), coarse=replace(first, token_fingerprint="f" * 64))


def test_audio_is_found_among_text() -> None:
    space = TokenSpace.of(codes_of(), Flat(codebook_sizes=SIZES, first_id=100), padded_vocab_size=256)
    begin, end = space.special_ids["begin"], space.special_ids["end"]
    ids = torch.tensor([5, 7, begin, 100, 132, 164, end, 9, begin, 101, 133, 165, begin, 131, 163, 195, end])
    found = space.segments(ids)
    assert found == [slice(2, 7), slice(8, 12), slice(12, 17)]
    assert [space.to_codes(ids[each]).values[0, :, 0].tolist() for each in found] == [[0] * 3, [1] * 3, [31] * 3]
    assert space.valid_ids(0).shape == (256,)
    assert space.valid_ids(4).nonzero()[:, 0].tolist() == list(range(132, 164))
    assert not space.segments([5, 7])
    with pytest.raises(TokenError, match=r"ids have shape \(1, 2\); wanted is one sequence"):
        space.segments([[1, 2]])


# ---- the file


@settings(max_examples=12)
@given(layout=layouts(), first=st.integers(0, 2), padding=st.sampled_from([None, 0, 64]))
def test_load_gives_what_was_saved(
    layout: Layout, first: int, padding: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = TokenSpace(
        token_fingerprint=FINGERPRINT,
        sample_rate=24_000,
        hop_length=320,
        layout=layout,  # type: ignore[arg-type]
        first_codebook=first,
        padded_vocab_size=None if padding is None else layout.vocab_size + padding,
    )
    path = tmp_path_factory.getbasetemp() / "a-space.json"  # the name of none that is looked for
    space.save(path)
    assert TokenSpace.load(path) == space
    derived = json.loads(path.read_text())["derived"]
    assert derived["special_ids"]["pad"] == layout.special_ids["pad"] and derived["frame_rate"] == "75"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("format",), "vqaudio codes", "is no token space; its format is 'vqaudio codes'"),
        (("version",), 2, "has format version 2, and this vqaudio reads up to 1"),
        (("version",), True, "has format version True"),
        (("sample_rate",), "16000", "config key 'sample_rate': expected int, got '16000'"),
        (("hop_length",), 0, "hop_length is 0; it is 1 or more"),
        (("token_fingerprint",), "abc", "token_fingerprint is 'abc'"),
        (("offset",), 3, "config key 'offset' is unknown"),
        (("layout", "kind"), "delays", "config key 'layout.kind': expected one of"),
        (("layout", "kind"), None, "expected one of"),
        (("layout", "codebook_sizes"), [32, 0, 32], "codebook_sizes is"),
        (("layout", "first_id"), 7, "'derived' does not follow from the fields"),
        (("layout", "delays"), [0, 1, 2], "config key 'layout.delays' is unknown"),
        (("padded_vocab_size",), 5, "padded_vocab_size is 5, and the layout has ids up to 98"),
        (("derived", "special_ids", "pad"), 0, "'derived' does not follow from the fields"),
    ],
)
def test_an_altered_file_is_refused_by_name(tmp_path: Path, keys: tuple[str, ...], value: Any, message: str) -> None:
    path = tmp_path / "space.json"
    TokenSpace.of(codes_of(), Flat(codebook_sizes=SIZES)).save(path)
    document = json.loads(path.read_text())
    node = document
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    path.write_text(json.dumps(document))
    with pytest.raises(TokenError, match=rf"space\.json: .*{message}"):
        TokenSpace.load(path)


def test_missing_parts_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    space = TokenSpace.of(codes_of(), Flat(codebook_sizes=SIZES))
    space.save(path)
    document = json.loads(path.read_text())
    for key in ("sample_rate", "layout", "derived"):
        path.write_text(json.dumps({name: value for name, value in document.items() if name != key}))
        with pytest.raises(TokenError, match=rf"space\.json: .*'{key}'"):
            TokenSpace.load(path)
    del document["layout"]["kind"]
    path.write_text(json.dumps(document))
    with pytest.raises(TokenError, match=r"'layout\.kind' is missing"):
        TokenSpace.load(path)
    for text in ("", "[]", "RIFF", '{"format": 3}'):
        path.write_text(text)
        with pytest.raises(TokenError, match=r"space\.json: is no token space"):
            TokenSpace.load(path)
    with pytest.raises(TokenError, match=r"none\.json: cannot be opened"):
        TokenSpace.load(tmp_path / "none.json")
    space.save(path)
    with pytest.raises(TokenError, match=r"space\.json: the token spaces differ: layout\.offsets is True here"):
        TokenSpace.load(path, expected=replace(space, layout=Flat(codebook_sizes=SIZES, offsets=False)))
