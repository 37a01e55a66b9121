"""Losses in the time domain. (estimate, reference), both (B, 1, T); a scalar comes back."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vqaudio.nn.companding import mu_law_encode


def waveform_mse(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error: the VQ-VAE's Gaussian likelihood."""
    return F.mse_loss(estimate, reference)


def waveform_l1(estimate: Tensor, reference: Tensor, *, floor: float = 1e-2) -> Tensor:
    """Mean absolute error, each item relative to its own level (root mean square, at least `floor`), so that quiet
    recordings count as much as loud ones. Silence is measured against the floor: an offset in it costs."""
    level = reference.square().mean(dim=(1, 2)).sqrt().clamp(min=floor)
    return ((estimate - reference).abs().mean(dim=(1, 2)) / level).mean()


def mu_law_cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """Cross-entropy in nats per sample of logits (B, 256, T) against the µ-law classes of `reference` (B, 1, T)."""
    return F.cross_entropy(logits, mu_law_encode(reference)[:, 0])


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, (B,) (Le Roux et al., arXiv 1811.02508, without mean removal
    as audio has none)."""
    dot = (estimate * reference).sum(dim=(1, 2), keepdim=True)
    target = dot / reference.square().sum(dim=(1, 2), keepdim=True).clamp(min=1e-12) * reference
    noise = (estimate - target).square().sum(dim=(1, 2)).clamp(min=1e-12)
    ratio: Tensor = 10.0 * torch.log10(target.square().sum(dim=(1, 2)).clamp(min=1e-12) / noise)
    return ratio
