"""add_audio_tokens: the ids of a space in a text tokenizer, which keeps them when it is saved."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.tiny import noise, tiny_tokenizer
from vqaudio import TokenSpace
from vqaudio.hf import add_audio_tokens
from vqaudio.layouts import CoarseFirst, Delay, Flat, Layout, TokenError

SIZES = tiny_tokenizer("rvq-projected").codebook_sizes  # 3 of 32
WORDS = ["[UNK]", "[PAD]", "say", "hello", "audio", ":", "<", "|", ">"]
LAYOUTS = {
    "flat": Flat(codebook_sizes=SIZES),
    "flat, without offsets": Flat(codebook_sizes=SIZES, offsets=False),
    "coarse first": CoarseFirst(codebook_sizes=SIZES, chunk_frames=2),
    "one codebook, with specials": Flat(codebook_sizes=SIZES[:1], extra_specials=("speak", "listen")),
}


def text_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def space_of(layout: Layout) -> TokenSpace:
    return TokenSpace.of(tiny_tokenizer("rvq-projected"), layout)


def as_text(space: TokenSpace, texts: PreTrainedTokenizerBase, seed: int = 0) -> tuple[list[int], str]:
    """Six frames of noise: their ids, begun and ended, and the same as a string."""
    codes = tiny_tokenizer("rvq-projected").encode(noise(1, 120, seed))
    ids = space.to_tokens(codes, begin=True, end=True)[0].tolist()
    return ids, "".join(texts.convert_ids_to_tokens(ids))


@pytest.mark.parametrize("name", LAYOUTS)
def test_ids_follow_the_text_and_stand_for_what_the_space_says(name: str, tmp_path: Path) -> None:
    texts = text_tokenizer()
    space = add_audio_tokens(texts, space_of(LAYOUTS[name]))
    assert space.layout.first_id == len(WORDS) and space.vocab_size == len(texts)
    texts.save_pretrained(tmp_path / "text")
    space.save(tmp_path / "text/space.json")
    for each in (texts, AutoTokenizer.from_pretrained(tmp_path / "text")):
        assert len(each) == space.vocab_size
        assert sorted(each.get_vocab().values()) == list(range(space.vocab_size))
        ids, text = as_text(TokenSpace.load(tmp_path / "text/space.json", expected=space), each)
        assert each(f"say {text} hello")["input_ids"] == [2, *ids, 3]
        assert each(each.decode(ids))["input_ids"] == ids


def test_names_say_codebook_and_code() -> None:
    texts = text_tokenizer()
    space = add_audio_tokens(texts, space_of(LAYOUTS["flat"]))
    assert texts.convert_ids_to_tokens(9 + 32 + 5) == "<|audio:1:5|>"
    assert texts.convert_ids_to_tokens(list(space.special_ids.values())) == [
        "<|audio:pad|>", "<|audio:begin|>", "<|audio:end|>"
    ]  # fmt: skip
    without = text_tokenizer()
    add_audio_tokens(without, space_of(LAYOUTS["flat, without offsets"]))
    assert without.convert_ids_to_tokens(9 + 31) == "<|audio:31|>" and len(without) == 9 + 32 + 3
    fine = text_tokenizer()
    later = TokenSpace.of(tiny_tokenizer("rvq-projected"), Flat(codebook_sizes=SIZES[1:]), first_codebook=1)
    add_audio_tokens(fine, later)
    assert fine.convert_ids_to_tokens(9) == "<|audio:1:0|>"


def test_skipping_special_tokens_keeps_the_codes() -> None:
    texts = text_tokenizer()
    space = add_audio_tokens(texts, space_of(LAYOUTS["one codebook, with specials"]))
    ids, text = as_text(space, texts)
    assert text.startswith("<|audio:begin|><|audio:0:") and text.endswith("<|audio:end|>")
    bare = texts.decode([space.special_ids["speak"], *ids], skip_special_tokens=True)
    assert texts(bare)["input_ids"] == ids[1:-1]


def test_a_tokenizer_that_has_them_gives_the_same_space_again(tmp_path: Path) -> None:
    texts = text_tokenizer()
    space = add_audio_tokens(texts, space_of(LAYOUTS["flat"]), pad_to_multiple_of=64)
    assert (space.vocab_size, len(texts)) == (128, 9 + 96 + 3)
    texts.add_tokens(["more"])  # what comes later does not matter
    texts.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert add_audio_tokens(loaded, space_of(LAYOUTS["flat"]), pad_to_multiple_of=64) == space
    assert len(loaded) == len(texts)


@pytest.mark.parametrize(
    "other",
    [
        LAYOUTS["flat, without offsets"],
        Flat(codebook_sizes=SIZES[:2]),
        Flat(codebook_sizes=SIZES, extra_specials=("more",)),
    ],
    ids=("without offsets", "fewer codebooks", "more specials"),
)
def test_a_tokenizer_with_tokens_of_another_space_is_refused_and_left_alone(other: Layout) -> None:
    texts = text_tokenizer()
    add_audio_tokens(texts, space_of(LAYOUTS["flat"]))
    before = texts.get_vocab()
    with pytest.raises(TokenError, match=r"already has 99 audio tokens, <\|audio:0:0\|> to <\|audio:end\|>"):
        add_audio_tokens(texts, space_of(other))
    assert texts.get_vocab() == before


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TokenError, match="a delay layout has a row of ids for each codebook"):
        add_audio_tokens(text_tokenizer(), space_of(Delay(codebook_sizes=SIZES)))
    with pytest.raises(TokenError, match="named like a code"):
        add_audio_tokens(text_tokenizer(), space_of(Flat(codebook_sizes=SIZES, extra_specials=("0:3",))))
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "far": 500}, unk_token="[UNK]"))
    with pytest.raises(TokenError, match="2 tokens and ids up to 500"):
        add_audio_tokens(PreTrainedTokenizerFast(tokenizer_object=backend), space_of(LAYOUTS["flat"]))


def test_text_around_audio_is_tokenised_as_before() -> None:
    texts, plain = text_tokenizer(), text_tokenizer()
    add_audio_tokens(texts, space_of(LAYOUTS["flat"]))
    for line in ("say hello", "< | audio : 3 | >", "<|audio:", "<|audio:9:9|>"):
        assert texts(line)["input_ids"] == plain(line)["input_ids"]


def test_ids_in_a_batch_are_padded_by_the_text_tokenizer() -> None:
    texts = text_tokenizer()
    space = add_audio_tokens(texts, space_of(LAYOUTS["flat"]))
    ids, text = as_text(space, texts)
    texts.padding_side = "left"
    rows = texts(["say " + text, text], padding=True, return_tensors="pt")
    assert rows["input_ids"].tolist() == [[2, *ids], [1, *ids]]
    assert torch.equal(rows["attention_mask"][:, 0], torch.tensor([1, 0]))


def test_a_token_that_is_there_by_chance_is_no_reason_to_give_up_its_id() -> None:
    texts = text_tokenizer()
    texts.add_tokens([AddedToken("<|audio|>"), AddedToken("<|audio_bos|>")])  # of other models: no names of ours
    assert add_audio_tokens(texts, space_of(LAYOUTS["flat"])).layout.first_id == len(WORDS) + 2
