"""Vector quantisation as the VQ-VAE states it (van den Oord et al., arXiv 1711.00937).

`Codebook` is the table E ∈ R^{V×d} with its nearest-neighbour search and its two ways of learning; `VectorQuantizer`
is the paper's bottleneck of one codebook.

The exponential moving average (paper, appendix A.1) keeps per code a running count and a running sum, and the code is
their quotient. Reviving a dead code must therefore rewrite all three: a new vector alone is undone by the next update.

SimVQ (arXiv 2411.02038) is a third way of learning: the vectors are random and never change, and one linear map, which
learns by the codebook loss, makes the codes of them. A code that is not chosen moves along with all others, so none can
die, and none is revived.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio import ranks
from vqaudio.config import LATER
from vqaudio.quantize.base import (
    THROUGH,
    Quantized,
    Reborn,
    Through,
    active_codebooks,
    check_codes,
    check_latents,
    check_level,
    check_num_codebooks,
    check_rows,
)

Update = Literal["ema", "gradient", "simvq"]
Revival = Literal["vector", "split"]

_SPLIT = 0.1  # of the way from a code that is split to a vector that it stands for

# Rows compared with the codebook at once: 8192 x 1024 scores are 32 MB, so memory does not grow with the batch.
_SEARCH_ROWS = 8192


def first_largest(scores: Tensor) -> Tensor:
    """(M, V) -> (M,) int64, the lowest index of each row's largest score; on a CPU by numpy, which vectorises it."""
    if scores.device.type != "cpu":
        return scores.argmax(dim=-1)
    return torch.from_numpy(scores.detach().numpy().argmax(axis=-1))


def check_learning(ema_decay: float, revive_below: float) -> None:
    """Refuse averages that forget nothing or everything, and codes that are dead at uniform use."""
    if not (0 <= ema_decay < 1 and 0 <= revive_below < 1):
        raise ValueError(f"ema_decay {ema_decay} and revive_below {revive_below} must be 0 or more, and less than 1")


class Learner(Protocol):
    def learn(self, x: Tensor, indices: Tensor, *, generator: torch.Generator | None) -> Tensor: ...

    def learned_rows(self) -> Tensor | None: ...


def taught(
    table: Learner, x: Tensor, indices: Tensor, *, generator: torch.Generator | None
) -> tuple[int, Reborn | None]:
    """Let a codebook learn from a batch: how many codes it revived, and which if they are a parameter."""
    vectors = table.learned_rows()
    before = None if vectors is None else vectors.detach().clone()
    rows = table.learn(x, indices, generator=generator)
    if vectors is None or before is None or len(rows) == 0:
        return len(rows), None
    return len(rows), Reborn(vectors, rows, before[rows])


class Codebook(nn.Module):
    """V vectors of width d. With `normalize`, inputs and codes have unit length: Euclidean argmin = cosine argmax.

    `update="ema"` moves codes by moving averages in `learn`; `update="gradient"` makes them a parameter for the
    codebook loss; `update="simvq"` makes them a linear map of fixed vectors, and the map a parameter for that loss.
    `revive_below` is a fraction of uniform use: a code whose running count falls under it is revived; 0 never revives.
    `revival` says where: as a `vector` of the batch, or beside a code of more than uniform use, which is `split` (LBG,
    Linde et al. 1980). In many dimensions a vector is nearer to the mean of a cell than to another vector, so a code
    reborn as a vector stays unused, dies again, and half of a codebook may be forever on its way.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        update: Update = "ema",
        normalize: bool = False,
        ema_decay: float = 0.99,
        revive_below: float = 0.1,
        revival: Revival = "vector",
    ) -> None:
        super().__init__()
        self.update, self.normalize, self.revival = update, normalize, revival
        self.ema_decay, self.revive_below = ema_decay, revive_below
        # the paper's reference code starts uniformly in ±1/V; k-means (`fit`) replaces this start
        vectors = torch.empty(codebook_size, dim).uniform_(-1.0 / codebook_size, 1.0 / codebook_size)
        if update == "simvq":
            vectors = torch.randn(codebook_size, dim)
            self.transform = nn.Linear(dim, dim)
            self.transform.weight.data.copy_(torch.eye(dim) / codebook_size)  # codes of about the size of the others
            nn.init.zeros_(self.transform.bias)
        vectors = F.normalize(vectors, dim=-1) if normalize and update != "simvq" else vectors
        if update == "gradient":
            self.vectors: Tensor = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        self.register_buffer("ema_counts", torch.ones(codebook_size))
        self.register_buffer("ema_sums", vectors.clone())
        self.ema_counts: Tensor
        self.ema_sums: Tensor

    @property
    def size(self) -> int:
        return len(self.vectors)

    def normalized(self, x: Tensor) -> Tensor:
        """The form in which inputs meet the codes: unit length if the codebook is normalised, else unchanged."""
        return F.normalize(x, dim=-1, eps=1e-8) if self.normalize else x

    @property
    def codes(self) -> Tensor:
        """(V, d) as inputs meet them. An optimiser's step, or storage as float16, moves a code off unit length."""
        return self.normalized(self.transform(self.vectors) if self.update == "simvq" else self.vectors)

    @property
    def learns_by_loss(self) -> bool:
        """Whether there is a codebook loss: averages take its place."""
        return self.update != "ema"

    def nearest(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,) int64, argmin ‖x - e‖²; ties go to the lowest index."""
        # ‖x - e‖² = ‖x‖² - 2 (x·e - ‖e‖²/2): one matrix product, and ‖x‖² does not matter
        codes = self.codes
        bias = -0.5 * codes.square().sum(dim=-1)
        return torch.cat([first_largest(torch.addmm(bias, rows, codes.t())) for rows in x.split(_SEARCH_ROWS)])

    def scores(self, x: Tensor, indices: Tensor) -> Tensor:
        """(M, d), (M,) -> (M,): what `nearest` makes as large as it can, x·e - ‖e‖²/2, for given codes."""
        e = self.lookup(indices)
        return ((x - 0.5 * e) * e).sum(dim=-1)

    def lookup(self, indices: Tensor) -> Tensor:
        return F.embedding(indices, self.codes)

    @torch.no_grad()
    def learn(self, x: Tensor, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        """Move counts (and with EMA the codes) toward a batch x (M, d); returns the rows that were revived.

        A batch that holds NaN or infinity changes nothing: an average would never forget it. In a run of several
        processes the batch is that of all of them, and `generator` has to be given, in the same state on each: so every
        codebook stays the same everywhere, and the same as if one process had the whole batch.
        """
        if ranks.count() > 1 and generator is None:
            raise ValueError("several processes need a generator, seeded alike, to revive the same codes")
        x, indices = ranks.gathered(x), ranks.gathered(indices)
        if not x.isfinite().all():
            return indices[:0]
        counts = torch.bincount(indices, minlength=self.size).to(x.dtype)
        self.ema_counts.lerp_(counts, 1.0 - self.ema_decay)
        if self.update == "ema":
            sums = torch.zeros_like(self.ema_sums).index_add_(0, indices, x)
            self.ema_sums.lerp_(sums, 1.0 - self.ema_decay)
            # a count that has decayed to nothing leaves the code where it is until it is revived
            seen = self.ema_counts > 1e-6
            quotient = self.ema_sums / self.ema_counts.clamp(min=1e-6).unsqueeze(-1)
            self.vectors.copy_(torch.where(seen.unsqueeze(-1), self.normalized(quotient), self.vectors))
        if self.update == "simvq":
            return indices[:0]
        return self._revive(x, indices, generator=generator)

    def learned_rows(self) -> Tensor | None:
        """The codes, if they are a parameter."""
        return self.vectors if self.update == "gradient" else None

    def _revive(self, x: Tensor, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        uniform = self.ema_counts.sum() / self.size
        dead = (self.ema_counts < self.revive_below * uniform).nonzero().squeeze(-1)
        if self.revival == "split":
            return self._split(dead, x, indices, uniform, generator=generator)
        x = self._seeds(x)
        if len(dead) == 0 or len(x) == 0:
            return dead[:0]
        chosen = x[torch.randint(len(x), (len(dead),), generator=generator).to(x.device)]
        self.vectors.data[dead] = chosen
        self.ema_counts[dead] = uniform
        self.ema_sums[dead] = chosen * uniform
        return dead

    def _split(
        self, dead: Tensor, x: Tensor, indices: Tensor, uniform: Tensor, *, generator: torch.Generator | None
    ) -> Tensor:
        """Codes of more than uniform use, drawn by their use in the batch, share their counts with dead ones."""
        often = self.ema_counts[indices] > uniform
        x, indices = x[often], indices[often]
        if len(dead) == 0 or len(x) == 0:
            return dead[:0]
        rows = torch.randint(len(x), (len(dead),), generator=generator).to(x.device)
        owners = indices[rows]
        share = self.ema_counts / (1 + torch.bincount(owners, minlength=self.size))
        codes = self.vectors.data
        codes[dead] = self.normalized(torch.lerp(codes[owners], x[rows], _SPLIT))
        for place in (dead, owners):
            self.ema_counts[place] = share[owners]
            self.ema_sums[place] = codes[place] * share[owners].unsqueeze(-1)
        return dead

    def _seeds(self, x: Tensor) -> Tensor:
        """The rows that may become codes: zeros have no direction, so no unit code can stand for them."""
        return x[x.any(dim=-1)] if self.normalize else x

    @torch.no_grad()
    def fit(self, x: Tensor, *, generator: torch.Generator, iterations: int = 20) -> None:
        """k-means on x (M, d): Lloyd's algorithm from random rows; empty clusters are reseeded. For SimVQ, whose
        vectors stay: the map that gives the codes mean and covariance of x."""
        x = self._seeds(self.normalized(x))
        if len(x) == 0:
            raise ValueError("all vectors to start from are zero; normalised codes need directions")
        if self.update == "simvq":
            self._fit_transform(x)
            return
        centres = x[torch.randint(len(x), (self.size,), generator=generator).to(x.device)].clone()
        for _ in range(iterations):
            self.vectors.data.copy_(centres)
            indices = self.nearest(x)
            counts = torch.bincount(indices, minlength=self.size).to(x.dtype)
            centres = torch.zeros_like(centres).index_add_(0, indices, x) / counts.clamp(min=1).unsqueeze(-1)
            empty = (counts == 0).nonzero().squeeze(-1)
            centres = self.normalized(centres)
            centres[empty] = x[torch.randint(len(x), (len(empty),), generator=generator).to(x.device)]
        self.vectors.data.copy_(centres)
        self.reset_statistics()

    @torch.no_grad()
    def _fit_transform(self, x: Tensor) -> None:
        mean = x.double().mean(dim=0)
        centred = x.double() - mean
        values, directions = torch.linalg.eigh(centred.t() @ centred / len(x))
        root = directions * values.clamp(min=0).sqrt() @ directions.t()  # the vectors' own covariance is about 1
        self.transform.weight.copy_(root)
        self.transform.bias.copy_(mean)
        self.reset_statistics()

    @torch.no_grad()
    def reset_statistics(self) -> None:
        """Running counts as if every code had uniform use, and sums that agree with the codes."""
        self.ema_counts.fill_(1.0)
        self.ema_sums.copy_(self.codes)


@dataclass(frozen=True, kw_only=True)
class VQConfig:
    """One codebook of full width, as in the paper."""

    kind: Literal["vq"] = "vq"
    dim: int = 64
    codebook_size: int = 512  # the paper's K
    update: Update = "ema"
    through: Through = field(default="straight_through", metadata=LATER)  # how the decoder's gradient passes the code
    ema_decay: float = 0.99  # the paper's γ
    revive_below: float = 0.1  # fraction of uniform use; 0 keeps to the paper, which never revives
    revival: Revival = field(default="vector", metadata=LATER)  # where a code is reborn

    def __post_init__(self) -> None:
        if min(self.dim, self.codebook_size) < 1:
            raise ValueError(f"dim {self.dim} and codebook_size {self.codebook_size} must be positive")
        check_learning(self.ema_decay, self.revive_below)

    def build(self) -> "VectorQuantizer":
        return VectorQuantizer(self)


class VectorQuantizer(nn.Module):
    """z_e (B, D, N) -> nearest code e_k, gradient copied straight through (or turned by rotation). Codes are (B, 1, N).

    Losses: `codebook` ‖sg[z_e] - e‖² (absent under EMA, which replaces it) and `commitment` ‖z_e - sg[e]‖², each summed
    over D and averaged over frames (paper, eq. 3); the recipe's β weighs the second.
    """

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.codebook_sizes = (config.codebook_size,)
        self.through = config.through
        self.table = Codebook(
            config.dim,
            config.codebook_size,
            update=config.update,
            ema_decay=config.ema_decay,
            revive_below=config.revive_below,
            revival=config.revival,
        )

    def forward(
        self,
        latents: Tensor,
        *,
        num_codebooks: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        check_latents(latents, self.dim)
        B, _, N = latents.shape
        active_codebooks(num_codebooks, total=1, batch=B, device=latents.device)
        z = rearrange(latents.float(), "b d n -> (b n) d")
        indices = self.table.nearest(z)
        e = self.table.lookup(indices)
        losses = {"commitment": (z - e.detach()).square().sum(dim=-1).mean()}
        if self.table.learns_by_loss:
            losses["codebook"] = (z.detach() - e).square().sum(dim=-1).mean()
        quantized = rearrange(THROUGH[self.through](e.detach(), z), "(b n) d -> b d n", b=B, n=N)
        variance = (z - z.mean(dim=0)).detach().square().sum().clamp(min=1e-12)
        energy = (z - e).detach().square().sum() / variance
        num_revived, revived = 0, None
        if self.training:
            num_revived, revived = taught(self.table, z.detach(), indices, generator=generator)
        return Quantized(
            latents=quantized,
            codes=indices.view(B, 1, N),
            losses=losses,
            stats={"residual_energy": energy.view(1), "revived": torch.tensor([num_revived])},
            revived=(revived,) if revived else (),
        )

    @property
    def chain(self) -> "list[VectorQuantizer]":
        """The levels, of which this is the only one."""
        return [self]

    def scores(self, residual: Tensor, indices: Tensor) -> Tensor:
        """(M, D), (M,) -> (M,): what the choice makes as large as it can, for given codes."""
        return self.table.scores(residual, indices)

    def embed(self, indices: Tensor) -> Tensor:
        return self.table.lookup(indices)

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        check_latents(latents, self.dim)
        check_num_codebooks(num_codebooks, 1)
        B, _, N = latents.shape
        rows = rearrange(latents.float(), "b d n -> (b n) d")
        return self.table.nearest(rows).view(B, 1, N)

    def decode(self, codes: Tensor) -> Tensor:
        check_codes(codes, self.codebook_sizes)
        return self.table.lookup(codes[:, 0]).transpose(1, 2)

    def codebook(self, index: int) -> Tensor:
        check_level(index, 1)
        return self.table.codes.detach()

    def fit(self, latents: Tensor, *, generator: torch.Generator) -> None:
        """Start from k-means on latents (M, D)."""
        check_rows(latents, self.dim)
        self.table.fit(latents, generator=generator)
