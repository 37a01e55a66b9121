"""Embeddings of a language model that begin as what the codes stand for: rows of the tokenizer's codebooks.

Codes that sound alike lie near each other in a codebook, which a table of random rows has to learn again. A codebook's
vectors are centred, brought to one size, and mapped to the model's width by a map that all codebooks share:

    width ≥ D    a random rotation into the wider space: all distances are kept
    width < D    the directions in which codes differ most (PCA over all codebooks), then a random rotation

since of a factorised codebook of D = 512 that has 8 dimensions before its output projection, the differences lie in 8
dimensions anyway. To each codebook one random vector is added, so that codebooks differ from each other.
"""

import torch
from torch import Tensor

from vqaudio.layouts import TokenError, TokenSpace
from vqaudio.tokenizer import AudioTokenizer


def embeddings_from_codebooks(
    tokenizer: AudioTokenizer,
    space: TokenSpace,
    dim: int,
    *,
    seed: int,
    std: float = 0.02,  # of each number in the table, as in GPT-2
) -> Tensor:
    """The table of a model of width `dim`: (vocab_size, dim) float32, or (K, vocab_size, dim) if the layout is stacked.

    Rows of codes are those of the codebooks, after the output projection; rows of specials, of a text vocabulary before
    them and of padding of the table are random. TokenError if the space is not of this tokenizer, or if its ids have
    no offsets, so that one stands for a code of every codebook.
    """
    space.check_codes_of(tokenizer)
    layout = space.layout
    if dim < 1:
        raise ValueError(f"dim is {dim}; an embedding has 1 number or more")
    if not layout.stacked and len(set(layout.code_offsets)) < layout.num_codebooks:
        raise TokenError("without offsets an id stands for a code of every codebook, so there is no one row for it")
    generator = torch.Generator().manual_seed(seed)
    rows = layout.num_codebooks if layout.stacked else 1
    table = std * torch.randn(rows, space.vocab_size, dim, generator=generator)
    levels = range(space.first_codebook, space.first_codebook + layout.num_codebooks)
    codebooks = [_centred(tokenizer.codebook(level)) for level in levels]  # (V, D) each
    mapping = _mapping(codebooks, dim, generator)  # (D, dim)
    for number, (codebook, first) in enumerate(zip(codebooks, layout.code_offsets, strict=True)):
        vectors = std * (_centred(codebook @ mapping).float() + torch.randn(dim, generator=generator))
        table[number if layout.stacked else 0, first : first + len(vectors)] = vectors
    return table if layout.stacked else table[0]


def _centred(vectors: Tensor) -> Tensor:
    """With mean 0 and a mean square of 1, over all numbers; all zero if all are alike."""
    vectors = vectors.double() - vectors.double().mean(dim=0)
    return vectors / vectors.square().mean().sqrt().clamp_min(1e-12)


def _mapping(codebooks: list[Tensor], dim: int, generator: torch.Generator) -> Tensor:
    """(D, dim) float64 with orthonormal rows, or columns if `dim` is the smaller."""
    D = codebooks[0].shape[1]
    rotation = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    if dim >= D:
        return rotation[:D]
    covariance = sum((each.t() @ each / len(each) for each in codebooks), torch.zeros(D, D, dtype=torch.float64))
    directions = torch.linalg.eigh(covariance)[1][:, -dim:]  # of the largest eigenvalues, which come last
    return directions @ rotation
