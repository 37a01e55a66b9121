"""New codes from a language model: from nothing, or going on from a prompt. Whatever is drawn decodes.

At every step only the ids that the layout allows there have a probability, so that a sequence is whole by construction.
The steps before are remembered (key-value cache). What is longer than the model's window is written with a memory that
slides: when it is full, the model reads the last half of it anew.
"""

import time
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from vqaudio.lm.model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How an id is drawn. `temperature` 0: the likeliest."""

    temperature: float = 1.0
    top_k: int | None = None  # only the so many likeliest; None: all
    top_p: float = 1.0  # only the likeliest that together have this much of the probability
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; it is 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it is 1 or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it lies above 0 and at most at 1")


@dataclass(frozen=True)
class Sampled:
    """What was written, and how fast."""

    codes: Tensor  # (B, K, N) int64, prompt included
    num_tokens: int  # codes that were drawn, of all items together
    seconds: float  # that it took
    processor_seconds: float  # of that, on the CPU: what it would take a CPU that does nothing else

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else float("inf")

    def times_real_time(self, frame_rate: Fraction) -> float:
        """Seconds of new audio, of all items together, per second."""
        return self.tokens_per_second / float(frame_rate) / self.codes.shape[1]


@torch.no_grad()
def sample(
    model: LanguageModel,
    *,
    num_frames: int,
    prompt: Tensor | None = None,
    num_items: int = 1,
    sampling: Sampling | None = None,
) -> Sampled:
    """Codes of `num_frames` frames for each item, of which the first are those of `prompt` (B, K, P), P < num_frames.

    Without a prompt `num_items` are begun from nothing. One seed gives one result; items are drawn together, so that an
    item of a batch is not what it would be alone.
    """
    layout, sampling = model.space.layout, sampling or Sampling()
    K = layout.num_codebooks
    if prompt is None:
        prompt = torch.zeros(num_items, K, 0, dtype=torch.int64)
    if prompt.ndim != 3 or prompt.shape[1] != K or not len(prompt):
        raise ValueError(f"the prompt has shape {tuple(prompt.shape)}; wanted is (B, {K}, P)")
    B, P = len(prompt), prompt.shape[-1]
    if num_frames <= P:
        raise ValueError(f"{num_frames} frames are wanted and the prompt has {P}; there is nothing to write")
    tokens, given = _given(model, prompt, num_frames)  # (B, R, L), (R, L)
    generator = torch.Generator().manual_seed(sampling.seed)
    memory = _Memory(model, B)
    was_training = model.training
    model.eval()
    started, worked = time.perf_counter(), time.process_time()
    first = int((~given).any(dim=0).nonzero()[0])  # step: all before are given
    logits = memory.read(tokens[..., :first])
    for step in range(first, tokens.shape[-1]):
        allowed = model.space.valid_ids(step, num_frames)
        allowed = allowed if layout.stacked else allowed[None]  # (R, V)
        drawn = draw(logits.masked_fill(~allowed, -torch.inf), sampling, generator)  # (B, R)
        tokens[..., step] = torch.where(given[:, step], tokens[..., step], drawn)
        if step + 1 < tokens.shape[-1]:
            logits = memory.read(tokens[..., step : step + 1])
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - worked
    model.train(was_training)
    codes = layout.to_codes(tokens if layout.stacked else tokens[:, 0])
    return Sampled(codes, B * K * (num_frames - P), seconds, processor_seconds)


def draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Ids (...) from logits (..., V), on the CPU."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    ordered, ids = (logits.float() / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    if sampling.top_k is not None:
        probabilities[..., sampling.top_k :] = 0.0
        probabilities /= probabilities.sum(dim=-1, keepdim=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)  # the first always stays
    place = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator).view(*ids.shape[:-1], 1)
    return ids.gather(-1, place)[..., 0]


class _Memory:
    """What the model has read: begin, and then tokens as they come."""

    def __init__(self, model: LanguageModel, num_items: int) -> None:
        self.model = model
        begin = torch.full((num_items, model.num_rows, 1), model.space.special_ids["begin"])
        self.tokens, self.cache, self.length = begin, model.new_cache(), 0

    def read(self, tokens: Tensor) -> Tensor:
        """More tokens (B, R, l), none perhaps at the very first -> logits (B, R, V) of the next, on the CPU."""
        self.tokens = torch.cat([self.tokens, tokens], dim=-1)
        window, new = self.model.window, self.tokens.shape[-1] - self.length
        if self.cache.get_seq_length() + new > window:  # of a long prompt the last half window is read
            self.cache, new = self.model.new_cache(), min(self.tokens.shape[-1], max(window // 2, 1))
        self.length = self.tokens.shape[-1]
        logits = self.model(self.tokens[..., -new:].to(self.model.device), cache=self.cache)
        return logits[:, :, -1].cpu()


def _given(model: LanguageModel, prompt: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Tokens (B, R, L) of all frames with the prompt in its places, and where it is, or only one id may be (R, L)."""
    layout = model.space.layout
    B, K, P = prompt.shape
    filled = torch.zeros(B, K, num_frames, dtype=torch.int64)
    filled[..., :P] = prompt
    tokens = layout.to_tokens(filled)
    tokens = tokens if layout.stacked else tokens[:, None]
    given = torch.ones(tokens.shape[1:], dtype=torch.bool)
    places = layout.positions(num_frames)[:, P:]  # (K, N - P)
    rows = torch.arange(K)[:, None].expand_as(places) if layout.stacked else torch.zeros_like(places)
    given[rows, places] = False
    return tokens, given
