"""Layout: codes <-> token sequences. A layout is an index map; all that can be done with one follows from the map.

                                 frame       0  1  2        codes (K, N) = (2, 3)
                                 codebook 0  a  b  c
                                 codebook 1  p  q  r

    Parallel                     a b c       Delay   a b c -      Flat          a p b q c r
    (K, L)                       p q r       (K, L)  - p q r      CoarseFirst   a b c p q r

The ids of codes and of specials are listed in `vqaudio.layouts.index_map`.
"""

import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

import torch
from torch import Tensor

from vqaudio.layouts.batches import Side, TokenBatch, batch, loss_mask
from vqaudio.layouts.index_map import IndexMap, TokenError, column, integers
from vqaudio.layouts.reading import Policy, Reading, TokenWarning, read


class Layout(IndexMap, Protocol):
    """Codes (B, K, N) or (K, N) <-> tokens (B, L) or (L,); of a stacked layout (B, K, L) or (K, L).

    Codes and tokens may be tensors on any device, NumPy arrays or nested lists of integers. They are checked on the
    CPU, and results are int64 tensors there: a wrong id is an error here, before it reaches an accelerator.
    """

    @property
    def tokens_per_frame(self) -> int:
        """How many steps of a sequence a frame takes: 1 if codebooks are stacked, else K."""
        return 1 if self.stacked else self.num_codebooks

    def tokens_per_second(self, frame_rate: int | Fraction) -> Fraction:
        """Steps of a sequence for a second of audio; delays, begin and end come on top, once for a sequence."""
        return Fraction(frame_rate) * self.tokens_per_frame

    # ---- there and back

    def to_tokens(self, codes: Any) -> Tensor:
        """Codes (B, K, N) or (K, N) -> tokens, without begin and end. TokenError for a code outside its codebook."""
        values = integers(codes, "codes")
        K = self.num_codebooks
        if values.ndim not in (2, 3) or values.shape[-2] != K:
            raise TokenError(f"codes have shape {tuple(values.shape)}; wanted is (B, {K}, N) or ({K}, N)")
        if values.ndim == 2:
            return self.to_tokens(values[None])[0]
        B, _, N = values.shape
        outside = (values < 0) | (values >= column(self.codebook_sizes))
        if outside.any():
            item, codebook, frame = outside.nonzero()[0].tolist()
            code, last = int(values[item, codebook, frame]), self.codebook_sizes[codebook] - 1
            place = f"codebook {codebook} of frame {frame}" + (f" of item {item}" if B > 1 else "")
            raise TokenError(f"{place} holds code {code}; its codes are 0 to {last}")
        L = self.num_steps(N)
        positions = self.positions(N)
        if self.stacked:
            positions = positions + torch.arange(K)[:, None] * L
        tokens = torch.full((B, K * L if self.stacked else L), self.pad_id)
        tokens[:, positions.reshape(-1)] = (values + column(self.code_offsets)).reshape(B, K * N)
        return tokens.view(B, K, L) if self.stacked else tokens

    def read(self, tokens: Any, *, invalid: Policy = "cut") -> Reading:
        """One sequence -> its codes (K, N), and what was wrong with it. See `vqaudio.layouts.reading`."""
        values = integers(tokens, "tokens")
        if values.shape[:-1] != ((self.num_codebooks,) if self.stacked else ()) or not values.ndim:
            wanted = f"({self.num_codebooks}, L)" if self.stacked else "(L,)"
            raise TokenError(f"tokens have shape {tuple(values.shape)}; wanted is one sequence {wanted}")
        return read(self, values, invalid)

    def to_codes(self, tokens: Any, *, invalid: Policy = "refuse") -> Tensor:
        """Tokens -> codes (K, N), or (B, K, N) where all sequences have as many frames. The inverse of `to_tokens`.

        Padding, begin and end may be there, and are left out. What is wrong is refused (TokenError), or else cut or
        clamped with a TokenWarning that says so; `read` gives the same as a value.
        """
        values = integers(tokens, "tokens")
        if values.ndim != (3 if self.stacked else 2):
            reading = self.read(values, invalid=invalid)
            if reading.problems:
                warnings.warn(reading.report, TokenWarning, stacklevel=2)
            return reading.codes
        readings = []
        for number, item in enumerate(values):
            try:
                readings.append(self.read(item, invalid=invalid))
            except TokenError as error:
                raise TokenError(f"item {number}: {error}") from error
        lengths = {reading.num_frames for reading in readings}
        if len(lengths) > 1:
            raise TokenError(f"items have {min(lengths)} to {max(lengths)} frames, which are no (B, K, N); "
                             "take them one by one: [layout.read(item) for item in tokens]")  # fmt: skip
        for number, reading in enumerate(readings):
            if reading.problems:
                warnings.warn(f"item {number}: {reading.report}", TokenWarning, stacklevel=2)
        if not readings:
            return torch.zeros(0, self.num_codebooks, 0, dtype=torch.int64)
        return torch.stack([reading.codes for reading in readings])

    # ---- while a model writes

    def valid_ids(self, step: int, num_frames: int | None = None) -> Tensor:
        """Which ids may stand at a step, counted from the first code on: (V,) bool, or (K, V) if stacked.

        With `num_frames` they lead to a sequence of exactly that length: its codes, then end, then pad. Without it
        codes may follow for ever, and end is among the valid ids wherever a sequence may end; not in a stacked
        layout, where the end is one decision and not K: there, once it is taken, `num_frames` says so.
        """
        if step < 0 or (num_frames is not None and num_frames < 0):
            raise TokenError(f"step {step} of {num_frames} frames: neither can be negative")
        rows = self.num_codebooks if self.stacked else 1
        mask = torch.zeros(rows, self.vocab_size, dtype=torch.bool)
        if num_frames is not None and step >= self.num_steps(num_frames):
            mask[:, self.end_id if step == self.num_steps(num_frames) else self.pad_id] = True
            return mask if self.stacked else mask[0]
        for row, codebook in enumerate(self.codebooks_at(step, num_frames)):
            if codebook is None:
                mask[row, self.pad_id] = True
            else:
                first = self.code_offsets[codebook]
                mask[row, first : first + self.codebook_sizes[codebook]] = True
        if num_frames is None and self.may_end(step):
            mask[:, self.end_id] = True
        return mask if self.stacked else mask[0]

    # ---- for training

    def batch(
        self,
        sequences: Sequence[Any],
        *,
        begin: bool = False,
        end: bool = False,
        side: Side = "right",
        multiple_of: int = 1,
    ) -> TokenBatch:
        """Sequences (L,) or (K, L) of any lengths, as one rectangle; `begin` and `end` add a step of each.

        Padding is on the right, or on the left for generation, up to a length that is a multiple of `multiple_of`.
        """
        return batch(self, sequences, begin=begin, end=end, side=side, multiple_of=multiple_of)

    def loss_mask(self, tokens: Tensor) -> Tensor:
        """Where an id has to be predicted: not at pad, which also fills delays, and not at begin."""
        return loss_mask(self, tokens)
