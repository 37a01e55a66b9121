"""Residual quantisation: every codebook codes what the ones before it left over (SoundStream, arXiv 2107.03312).

Two forms of a level behind one loop:

*Unprojected* (`codebook_dim = 0`): the code is the vector. Residual r - sg[e], one straight-through around the sum, so
that the encoder's gradient is exactly the decoder's, neither multiplied by K nor cut off after the first level.

*Projected* (after descript-audio-codec, arXiv 2306.06546): look-up in a small space, z = W_in r, out = W_out e. The
straight-through sits inside, at the code; residual r - sg[out]. Where we differ:

- `fit` starts each level's projections at the principal directions of the residual it receives and its codebook by
  k-means there, so that residual energy falls from the first step; random projections can leave all levels saying
  the same thing.
- the `residual` loss, ‖sg[r] - W_out sg[e]‖², keeps W_out the best linear read-out of the code while training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from vqaudio import ranks
from vqaudio.config import LATER
from vqaudio.quantize.base import (
    THROUGH,
    Quantized,
    Through,
    active_codebooks,
    check_codes,
    check_latents,
    check_level,
    check_num_codebooks,
    check_rows,
)
from vqaudio.quantize.vq import Codebook, Learner, Revival, Update, check_learning, taught


@dataclass(frozen=True)
class LevelOutput:
    """One level on a batch of residuals (M, D): its contribution, the indices (M,) and losses per row (M,)."""

    contribution: Tensor
    indices: Tensor
    losses: dict[str, Tensor]


class Level(Learner, Protocol):
    """One codebook in the chain. `projected` says where the straight-through is: inside the level or around all."""

    projected: bool
    size: int

    def __call__(self, residual: Tensor) -> LevelOutput: ...

    def select(self, residual: Tensor) -> Tensor: ...

    def scores(self, residual: Tensor, indices: Tensor) -> Tensor: ...

    def embed(self, indices: Tensor) -> Tensor: ...

    def fit(self, residual: Tensor, *, generator: torch.Generator) -> None: ...


class VectorLevel(nn.Module):
    """A codebook in the latent space (`codebook_dim = 0`) or in a projection of it."""

    def __init__(self, dim: int, codebook_dim: int, table: Codebook, *, through: Through = "straight_through") -> None:
        super().__init__()
        self.through = through
        self.projected = codebook_dim > 0
        self.size = table.size
        self.table = table
        if self.projected:
            self.project_in = nn.Linear(dim, codebook_dim)
            self.project_out = nn.Linear(codebook_dim, dim)

    def forward(self, residual: Tensor) -> LevelOutput:
        z = self._code_space(residual)
        indices = self.table.nearest(z)
        e = self.table.lookup(indices)
        losses = {"commitment": (z - e.detach()).square().sum(dim=-1)}
        if self.table.learns_by_loss:
            losses["codebook"] = (z.detach() - e).square().sum(dim=-1)
        if not self.projected:
            return LevelOutput(e.detach(), indices, losses)
        losses["residual"] = (residual.detach() - self.project_out(e.detach())).square().mean(dim=-1)
        return LevelOutput(self.project_out(THROUGH[self.through](e.detach(), z)), indices, losses)

    def _code_space(self, residual: Tensor) -> Tensor:
        return self.table.normalized(self.project_in(residual) if self.projected else residual)

    def select(self, residual: Tensor) -> Tensor:
        return self.table.nearest(self._code_space(residual))

    def scores(self, residual: Tensor, indices: Tensor) -> Tensor:
        """(M, D), (M,) -> (M,): what `select` makes as large as it can, for given codes."""
        return self.table.scores(self._code_space(residual), indices)

    def embed(self, indices: Tensor) -> Tensor:
        e = self.table.lookup(indices)
        out: Tensor = self.project_out(e) if self.projected else e
        return out

    def learn(self, residual: Tensor, indices: Tensor, *, generator: torch.Generator | None) -> Tensor:
        with torch.no_grad():
            return self.table.learn(self._code_space(residual), indices, generator=generator)

    def learned_rows(self) -> Tensor | None:
        return self.table.learned_rows()

    @torch.no_grad()
    def fit(self, residual: Tensor, *, generator: torch.Generator) -> None:
        if not self.projected:
            self.table.fit(residual, generator=generator)
            return
        mean, directions = principal_directions(residual, self.project_in.out_features)[::2]
        self.project_in.weight.copy_(directions.t())
        self.project_in.bias.copy_(-(mean @ directions))
        self.table.fit(self._code_space(residual), generator=generator)
        # Codes back to residuals by least squares. Unit codes have lost their length; this gives them the best one.
        codes = self.table.lookup(self.table.nearest(self._code_space(residual)))
        read_out(self.project_out, codes, residual)


def principal_directions(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), standard deviations (count,) and directions (D, count) of the most energetic part of x (M, D)."""
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    values, vectors = torch.linalg.eigh(centred.t() @ centred / len(x))
    scales = values.flip(-1)[:count].clamp(min=1e-12).sqrt()
    return mean.to(x.dtype), scales.to(x.dtype), vectors.flip(-1)[:, :count].to(x.dtype)


def read_out(linear: nn.Linear, codes: Tensor, target: Tensor) -> None:
    """Set `linear` to the least-squares map from codes (M, d) to target (M, D)."""
    design = torch.cat([codes, torch.ones_like(codes[:, :1])], dim=1).double()
    gram = design.t() @ design
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solution = torch.linalg.solve(gram, design.t() @ target.double())  # (d + 1, D)
    linear.weight.copy_(solution[:-1].t())
    linear.bias.copy_(solution[-1])


def _num_rows_using(rows_used: Tensor, num_levels: int, *, shared: bool) -> Tensor:
    """How many rows use each level, (K,). With `shared` those of all processes, in terms of this one's number of rows:
    losses divided by it, averaged over processes by their share of the rows, are those of the whole batch."""
    using = (rows_used.unsqueeze(-1) > torch.arange(num_levels, device=rows_used.device)).sum(dim=0).float()
    if not shared or ranks.count() == 1:
        return using
    rows = torch.tensor([float(len(rows_used))], device=rows_used.device)
    ranks.sum_over_ranks([using, rows])
    return using * (len(rows_used) / rows)


@dataclass(frozen=True, kw_only=True)
class ResidualVQConfig:
    kind: Literal["residual_vq"] = "residual_vq"
    dim: int = 128
    num_codebooks: int = 8
    codebook_size: int = 1024
    # width of the look-up space; 0: no projection, codes are latents. DAC (table 3) found 8 best among projections; at
    # the computing time of recipes/study, codes that are latents are ahead of it
    codebook_dim: int = 0
    normalize: bool = False  # unit-length inputs and codes; both sides or neither
    update: Update = "ema"
    through: Through = field(default="straight_through", metadata=LATER)  # how the decoder's gradient passes a code
    ema_decay: float = 0.97  # a window of about 30 batches
    revive_below: float = 0.2  # fraction of uniform use
    revival: Revival = field(default="vector", metadata=LATER)  # where a code is reborn

    def __post_init__(self) -> None:
        if min(self.dim, self.num_codebooks, self.codebook_size) < 1:
            raise ValueError(
                f"dim {self.dim}, num_codebooks {self.num_codebooks} and codebook_size {self.codebook_size} must be "
                "positive"
            )
        if not 0 <= self.codebook_dim <= self.dim:
            raise ValueError(f"codebook_dim is {self.codebook_dim}; it must lie in 0 … dim, {self.dim}")
        check_learning(self.ema_decay, self.revive_below)

    def build(self) -> "ResidualQuantizer":
        tables = [
            Codebook(
                self.codebook_dim or self.dim,
                self.codebook_size,
                update=self.update,
                normalize=self.normalize,
                ema_decay=self.ema_decay,
                revive_below=self.revive_below,
                revival=self.revival,
            )
            for _ in range(self.num_codebooks)
        ]
        levels = [VectorLevel(self.dim, self.codebook_dim, table, through=self.through) for table in tables]
        return ResidualQuantizer(self.dim, levels, through=self.through)


class ResidualQuantizer(nn.Module):
    """A chain of levels. Any prefix of its codebooks decodes."""

    def __init__(self, dim: int, levels: Sequence[Level], *, through: Through = "straight_through") -> None:
        super().__init__()
        self.through = through
        self.dim = dim
        self.levels = nn.ModuleList(cast(Sequence[nn.Module], levels))
        self.codebook_sizes = tuple(level.size for level in levels)

    @property
    def chain(self) -> list[Level]:
        """The levels, in order."""
        return cast(list[Level], list(self.levels))

    def forward(
        self,
        latents: Tensor,
        *,
        num_codebooks: int | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """Losses are per level (K,), averaged over the frames of items that use it. `residual_energy` (K,) is what is
        left after each level, relative to the variance of the latents: it must fall from level to level."""
        check_latents(latents, self.dim)
        B, _, N = latents.shape
        used = active_codebooks(num_codebooks, total=len(self.levels), batch=B, device=latents.device)
        z = rearrange(latents.float(), "b d n -> (b n) d")
        rows_used = used.repeat_interleave(N)  # (B * N,)
        residual, total = z, torch.zeros_like(z)
        projected = self.chain[0].projected
        codes, revived, num_revived = [], [], []
        losses: dict[str, list[Tensor]] = {}
        energies = []
        # where gradients are made all processes are here, even if codebooks are frozen; one that validates is alone
        using = _num_rows_using(rows_used, len(self.levels), shared=torch.is_grad_enabled())
        # around the mean: a constant offset is no information, and would make every residual look small
        latent_energy = (z - z.mean(dim=0)).detach().square().sum().clamp(min=1e-12)
        # looked at once for the whole chain: items with few codebooks would hide a NaN from the later levels
        learning = self.training and ranks.agreed(z.isfinite().all(), device=z.device)
        for index, level in enumerate(self.chain):
            active = rows_used > index
            out = level(residual)
            weight = active.to(z.dtype) / using[index].clamp(min=1)
            for name, value in out.losses.items():
                losses.setdefault(name, []).append((value * weight).sum())
            number, reborn = 0, None
            if learning:
                number, reborn = taught(level, residual.detach()[active], out.indices[active], generator=generator)
            num_revived.append(number)
            revived += [reborn] if reborn else []
            total = total + out.contribution * active.unsqueeze(-1)
            residual = residual - out.contribution.detach()
            energies.append(residual.detach().square().sum() / latent_energy)
            codes.append(out.indices.view(B, N))
        quantized = total if projected else THROUGH[self.through](total, z)
        return Quantized(
            latents=rearrange(quantized, "(b n) d -> b d n", b=B, n=N),
            codes=torch.stack(codes, dim=1),
            losses={name: torch.stack(values) for name, values in losses.items()},
            stats={"residual_energy": torch.stack(energies), "revived": torch.tensor(num_revived)},
            revived=tuple(revived),
        )

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        check_latents(latents, self.dim)
        K = check_num_codebooks(num_codebooks, len(self.levels))
        B, _, N = latents.shape
        residual = rearrange(latents.float(), "b d n -> (b n) d")
        codes = []
        for level in self.chain[:K]:
            indices = level.select(residual)
            residual = residual - level.embed(indices)
            codes.append(indices.view(B, N))
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, k, N) -> (B, D, N) for any k up to K: the sum of the codes' embeddings, added in order of levels."""
        check_codes(codes, self.codebook_sizes)
        latents = torch.stack([level.embed(codes[:, i]) for i, level in enumerate(self.chain) if i < codes.shape[1]])
        return latents.sum(dim=0).transpose(1, 2)

    @torch.no_grad()
    def codebook(self, index: int) -> Tensor:
        """(V, D) after the output projection, so that `decode` is the sum of rows."""
        check_level(index, len(self.levels))
        level = self.chain[index]
        return level.embed(torch.arange(level.size, device=next(self.buffers()).device))

    @torch.no_grad()
    def fit(self, latents: Tensor, *, generator: torch.Generator) -> None:
        """Start every level from the residuals (M, D) that reach it; M of ten times the codebook size is enough."""
        check_rows(latents, self.dim)
        residual = latents.float()
        for level in self.chain:
            level.fit(residual, generator=generator)
            residual = residual - level.embed(level.select(residual))
