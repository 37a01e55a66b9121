"""Embeddings that begin as codebooks: neighbours stay neighbours."""

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_tokenizer
from vqaudio import AudioTokenizer
from vqaudio.layouts import CoarseFirst, Delay, Flat, TokenError, TokenSpace
from vqaudio.lm import embeddings_from_codebooks


def nearest(vectors: Tensor) -> Tensor:
    """Of each vector the index of the nearest other one."""
    distances = torch.cdist(vectors.double(), vectors.double())
    return distances.fill_diagonal_(torch.inf).argmin(dim=1)


def rows_of(table: Tensor, space: TokenSpace, codebook: int) -> Tensor:
    first, size = space.layout.code_offsets[codebook], space.layout.codebook_sizes[codebook]
    return (table[codebook] if space.layout.stacked else table)[first : first + size]


@pytest.mark.parametrize("kind", ["rvq-projected", "rvq-unprojected", "vq-mu-law", "fsq"])
@pytest.mark.parametrize("make", [Flat, CoarseFirst, Delay])
def test_a_wide_table_keeps_all_distances(kind: str, make: type[Flat]) -> None:
    tokenizer = tiny_tokenizer(kind)
    space = TokenSpace.of(tokenizer, make(codebook_sizes=tokenizer.codebook_sizes), padded_vocab_size=200)
    table = embeddings_from_codebooks(tokenizer, space, 24, seed=0)  # codebooks have D = 16
    assert table.shape == ((tokenizer.num_codebooks, 200, 24) if space.layout.stacked else (200, 24))
    assert table.dtype == torch.float32
    for codebook in range(tokenizer.num_codebooks):
        expected = torch.pdist(tokenizer.codebook(codebook).double())
        found = torch.pdist(rows_of(table, space, codebook).double())
        torch.testing.assert_close(found / found.mean(), expected / expected.mean(), rtol=1e-4, atol=1e-4)
        assert rows_of(table, space, codebook).std() == pytest.approx(0.02 * 2**0.5, rel=0.35)


def test_a_narrow_table_keeps_most_neighbours() -> None:
    """Those of a model that ships, whose codebooks have 8 dimensions each of its 512, in a table of 64."""
    tokenizer = AudioTokenizer.from_pretrained("speech-16k-v1")
    space = TokenSpace.of(tokenizer, Flat(codebook_sizes=tokenizer.codebook_sizes[:4]))
    assert tokenizer.codebook(0).shape[1] > 64
    table = embeddings_from_codebooks(tokenizer, space, 64, seed=0)
    for codebook in range(4):
        same = nearest(rows_of(table, space, codebook)) == nearest(tokenizer.codebook(codebook))
        assert same.double().mean() > 0.95  # by chance: 0.001


def test_specials_text_and_seeds_are_random() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    space = TokenSpace.of(tokenizer, Flat(codebook_sizes=tokenizer.codebook_sizes, first_id=3000))
    table = embeddings_from_codebooks(tokenizer, space, 8, seed=0, std=0.5)
    assert table[:3000].std() == pytest.approx(0.5, rel=0.05)
    assert table[space.layout.codes_end :].unique(dim=0).shape == (3, 8)
    assert torch.equal(table, embeddings_from_codebooks(tokenizer, space, 8, seed=0, std=0.5))
    assert not torch.equal(table, embeddings_from_codebooks(tokenizer, space, 8, seed=1, std=0.5))


def test_a_fine_stage_has_the_codebooks_from_its_first() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    space = TokenSpace.of(tokenizer, Delay(codebook_sizes=tokenizer.codebook_sizes[1:]), first_codebook=1)
    table = embeddings_from_codebooks(tokenizer, space, 16, seed=0)
    assert torch.equal(nearest(rows_of(table, space, 0)), nearest(tokenizer.codebook(1)))


def test_what_has_no_row_for_a_code_is_refused() -> None:
    tokenizer, other = tiny_tokenizer("rvq-projected"), tiny_tokenizer("rvq-unprojected")
    shared = TokenSpace.of(tokenizer, Flat(codebook_sizes=tokenizer.codebook_sizes, offsets=False))
    with pytest.raises(TokenError, match="without offsets an id stands for a code of every codebook"):
        embeddings_from_codebooks(tokenizer, shared, 8, seed=0)
    with pytest.raises(TokenError, match="these tokens stand for other codes: token_fingerprint"):
        embeddings_from_codebooks(other, shared, 8, seed=0)
    with pytest.raises(ValueError, match="dim is 0"):
        embeddings_from_codebooks(tokenizer, shared, 0, seed=0)
