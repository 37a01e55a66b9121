"""add_audio_tokens: the ids of a TokenSpace as tokens of a text tokenizer.

    0 … len - 1       the text tokenizer's own
    len … end - 1     <|audio:0:0|>, <|audio:0:1|>, …    codebook and code; <|audio:5|> where ids say no codebook
    end, end + 1, …   <|audio:pad|>, <|audio:begin|>, <|audio:end|>, and the names of `extra_specials`

A model needs no strings to read and write audio, only ids: `Flat(first_id=len(text_tokenizer))` gives them, and costs
nothing. Tokens are for those who write audio into text (chat templates, data sets of strings), and so that nobody else
takes the ids. Tens of thousands of them make a tokenizer slow to load.

Codes are ordinary tokens, and only the others special ones: `skip_special_tokens=True` would delete the audio.
"""

from collections.abc import Iterator
from dataclasses import replace

from transformers import AddedToken, PreTrainedTokenizerBase

from vqaudio.layouts import TokenError, TokenSpace
from vqaudio.layouts.flat import CoarseFirst, Flat

PREFIX = "<|audio:"


def add_audio_tokens(
    text_tokenizer: PreTrainedTokenizerBase, space: TokenSpace, *, pad_to_multiple_of: int | None = None
) -> TokenSpace:
    """Add a token for each id of `space`, and return the space whose ids they have: `first_id` is the text's size.

    Of `space` everything but `first_id` and `padded_vocab_size` stays. With `pad_to_multiple_of` the space's
    `vocab_size`, for `resize_token_embeddings`, is the next multiple. A tokenizer that has these tokens, because it was
    saved with them, is left as it is, and the space is the same again.

    TokenError for a stacked layout, whose rows share ids, for a tokenizer with audio tokens of another space, and for
    one whose own ids have gaps.
    """
    layout = space.layout
    if not isinstance(layout, Flat | CoarseFirst):
        raise TokenError(
            f"a {layout.kind} layout has a row of ids for each codebook; a text model writes one row: Flat"
        )
    vocabulary = text_tokenizer.get_vocab()
    there = sorted((id, token) for token, id in vocabulary.items() if token.startswith(PREFIX))
    first_id = there[0][0] if there else len(text_tokenizer)
    if not there and max(vocabulary.values(), default=-1) >= first_id:
        raise TokenError(f"the text tokenizer has {first_id} tokens and ids up to {max(vocabulary.values())}; audio "
                         "ids go after the last, where a new token would not get them")  # fmt: skip
    audio = replace(layout, first_id=first_id)
    codes, specials = (
        list(_code_tokens(audio, space.first_codebook)),
        [f"{PREFIX}{name}|>" for name in audio.special_ids],
    )
    wanted = list(enumerate([*codes, *specials], start=first_id))
    if len(set(codes + specials)) < len(wanted):
        raise TokenError(f"extra_specials are {audio.extra_specials}, and one of them is named like a code")
    if there and there != wanted:
        raise TokenError(f"the text tokenizer already has {len(there)} audio tokens, {there[0][1]} to {there[-1][1]}, "
                         f"and they are not the {len(wanted)} of this space, {codes[0]} to {specials[-1]}")  # fmt: skip
    if not there:
        text_tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in codes])
        text_tokenizer.add_tokens([AddedToken(token, normalized=False, special=True) for token in specials], True)
    size = audio.vocab_size
    padded = None if pad_to_multiple_of is None else -(-size // pad_to_multiple_of) * pad_to_multiple_of
    return replace(space, layout=audio, padded_vocab_size=padded)


def _code_tokens(layout: Flat | CoarseFirst, first_codebook: int) -> Iterator[str]:
    """In the order of their ids."""
    if isinstance(layout, Flat) and not layout.offsets:
        yield from (f"{PREFIX}{code}|>" for code in range(max(layout.codebook_sizes)))
        return
    for codebook, size in enumerate(layout.codebook_sizes, start=first_codebook):
        yield from (f"{PREFIX}{codebook}:{code}|>" for code in range(size))
