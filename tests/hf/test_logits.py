"""ValidSteps: whatever a model prefers, what `generate` writes with it decodes."""

from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny import tiny_tokenizer
from vqaudio import TokenSpace
from vqaudio.hf import ValidSteps
from vqaudio.layouts import CoarseFirst, Delay, Flat, TokenError

SIZES = (5, 4, 6)
TEXT = 7  # ids of text: 0 is its padding


def space_of(layout: Any, padded: int | None = None) -> TokenSpace:
    tokenizer = tiny_tokenizer("rvq-projected")
    return TokenSpace(
        token_fingerprint=tokenizer.token_fingerprint,
        sample_rate=tokenizer.sample_rate,
        hop_length=tokenizer.hop_length,
        layout=layout,
        padded_vocab_size=padded,
    )


FLAT = space_of(Flat(codebook_sizes=SIZES, first_id=TEXT), padded=32)
SPACES = {
    "flat": FLAT,
    "flat, without offsets": space_of(Flat(codebook_sizes=SIZES, first_id=TEXT, offsets=False)),
    "coarse first, in chunks": space_of(CoarseFirst(codebook_sizes=SIZES, first_id=TEXT, chunk_frames=2)),
}
WHOLE = space_of(CoarseFirst(codebook_sizes=SIZES, first_id=TEXT))  # in one chunk: num_frames has to be known
BEGIN, END, PAD = (FLAT.special_ids[name] for name in ("begin", "end", "pad"))


@lru_cache
def language_model(vocab_size: int) -> LlamaForCausalLM:
    """Random weights, so large that it knows what it wants."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=1.0,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def generate(
    space: TokenSpace, prompts: Tensor, num_new: int, *, num_frames: int | None = None, **options: Any
) -> Tensor:
    """What is written after the prompts (B, L): (B, l)."""
    valid = ValidSteps(space, prompt_length=prompts.shape[1], num_frames=num_frames)
    written = language_model(space.vocab_size).generate(
        prompts,
        attention_mask=(prompts != 0).long(),
        logits_processor=[valid],
        max_new_tokens=num_new,
        eos_token_id=space.special_ids["end"],
        pad_token_id=space.special_ids["pad"],
        **options,
    )
    return written[:, prompts.shape[1] :]


def padded_left(prompts: list[list[int]]) -> Tensor:
    L = max(len(prompt) for prompt in prompts)
    return torch.tensor([[0] * (L - len(prompt)) + prompt for prompt in prompts])


PROMPTS = st.lists(st.lists(st.integers(1, TEXT - 1), min_size=1, max_size=4), min_size=1, max_size=3)


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=10)
@given(prompts=PROMPTS, begun=st.booleans(), num_chunks=st.integers(1, 4), seed=st.integers(0, 99))
def test_what_is_sampled_decodes(name: str, prompts: list[list[int]], begun: bool, num_chunks: int, seed: int) -> None:
    space = SPACES[name]
    ids = padded_left([[*prompt, space.special_ids["begin"]] if begun else prompt for prompt in prompts])
    torch.manual_seed(seed)
    most = 2 * num_chunks  # frames: whole chunks
    written = generate(space, ids, space.layout.num_steps(most), do_sample=True, temperature=3.0)
    for row in written:
        assert space.to_codes(row).num_frames <= most


@pytest.mark.parametrize("space", [*SPACES.values(), WHOLE], ids=[*SPACES, "coarse first, whole"])
@pytest.mark.parametrize(
    "options", ({"do_sample": True}, {"num_beams": 3}, {"num_beams": 3, "do_sample": True}), ids=str
)
@settings(max_examples=4)
@given(num_frames=st.integers(0, 6), seed=st.integers(0, 99))
def test_with_num_frames_there_are_so_many(
    space: TokenSpace, options: dict[str, Any], num_frames: int, seed: int
) -> None:
    torch.manual_seed(seed)
    prompts = padded_left([[3, space.special_ids["begin"]], [4, 2, 5, 6, space.special_ids["begin"]]])
    steps = space.layout.num_steps(num_frames)
    for row in generate(space, prompts, steps + 3, num_frames=num_frames, **options):
        assert row[steps] == space.special_ids["end"]
        assert space.to_codes(row).num_frames == num_frames


def test_rows_that_go_on_from_different_places_all_decode() -> None:
    begun = FLAT.layout.to_tokens(torch.tensor([[1, 2], [3, 0], [5, 4]])).tolist()
    prompts = padded_left(
        [
            [2, BEGIN, *begun, *begun[:2]],  # a frame and a third are still to come
            [BEGIN, *begun, END, 3, BEGIN],  # an example, and a second one to be written
            [BEGIN, *begun, END, 3],  # the same, begun by the prompt's end
            [1, 2, 3],
        ]
    )
    written = generate(FLAT, prompts, 12, num_frames=3, do_sample=True)
    assert FLAT.to_codes([BEGIN, *begun, *begun[:2], *written[0].tolist()]).num_frames == 3
    assert (written[0] == END).nonzero().tolist() == [[1]]
    for row in written[1:]:
        assert FLAT.to_codes(row).num_frames == 3


def test_after_the_end_comes_padding_where_generation_does_not_stop() -> None:
    valid = ValidSteps(FLAT, prompt_length=1)
    scores = torch.zeros(2, FLAT.vocab_size)
    ended = valid(torch.tensor([[1, 8, 13, 17, END, PAD], [1, 8, 13, 17, 7, 12]]), scores)
    assert ended[0].isfinite().nonzero().flatten().tolist() == [PAD]
    assert ended[1].isfinite().nonzero().flatten().tolist() == list(range(16, 22))  # codebook 2


def test_valid_ids_and_scores_are_left_as_they_are() -> None:
    valid = ValidSteps(FLAT, prompt_length=2)
    scores = torch.randn(3, FLAT.vocab_size, generator=torch.Generator().manual_seed(0))
    prompts = torch.tensor([[1, BEGIN], [BEGIN, 8], [2, 3]])
    found = valid(prompts, scores.clone())
    for row, step in enumerate((0, 1, 0)):
        mask = FLAT.valid_ids(step)
        assert torch.equal(found[row][mask], scores[row][mask]) and (found[row][~mask] == -torch.inf).all()
    assert valid(torch.zeros(3, 0, dtype=torch.int64), scores).shape == scores.shape  # generation from embeddings alone


def test_masks_that_are_alike_are_kept_once() -> None:
    valid = ValidSteps(FLAT, prompt_length=0)
    for length in range(300):
        valid(torch.full((1, length), 8), torch.zeros(1, FLAT.vocab_size))
    assert len({mask.data_ptr() for mask in valid._masks.values()}) == 3


def test_what_cannot_be_masked_is_refused() -> None:
    with pytest.raises(TokenError, match="a delay layout has several ids a step"):
        ValidSteps(space_of(Delay(codebook_sizes=SIZES)), prompt_length=3)
    with pytest.raises(TokenError, match="say how many there are"):
        ValidSteps(WHOLE, prompt_length=3)
    with pytest.raises(TokenError, match="prompt_length is -1"):
        ValidSteps(FLAT, prompt_length=-1)
    with pytest.raises(TokenError, match=r"30 logits and the space 32 ids; they agree after model\.resize"):
        ValidSteps(FLAT, prompt_length=1)(torch.ones(1, 1, dtype=torch.int64), torch.zeros(1, 30))


def test_a_model_resized_to_the_space_takes_its_ids() -> None:
    model = LlamaForCausalLM(language_model(TEXT).config)
    model.resize_token_embeddings(FLAT.vocab_size, mean_resizing=False)
    written = model.generate(
        torch.tensor([[3, BEGIN]]),
        attention_mask=torch.ones(1, 2),
        logits_processor=[ValidSteps(FLAT, prompt_length=2, num_frames=2)],
        max_new_tokens=7,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    assert FLAT.to_codes(written[0, 2:]).num_frames == 2
