"""TokenSpace: what a sequence model and a tokenizer have to agree on, as a file beside the tokens and beside the model.

    codes ── layout ──► ids      in which order, by which ids, of which tokenizer's codes: if two sides differ in one
    codes ◄── layout ── ids      of these, the ids still decode, to noise. So it is written down, and compared.

The file is JSON: format ("vqaudio token space"), version (1), the fields below, and `derived`: what follows from them,
for readers in other languages: vocab_size, special_ids, code_offsets, frame_rate (a fraction, as text). It is checked
against the fields when it is read; an unknown field, a missing one or another type is refused by its dotted path.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vqaudio.codes import Codes
from vqaudio.config import from_dict, to_dict
from vqaudio.io import write_aside
from vqaudio.layouts.batches import wrapped
from vqaudio.layouts.flat import CoarseFirst, Flat
from vqaudio.layouts.index_map import TokenError, integers
from vqaudio.layouts.reading import Policy, TokenWarning
from vqaudio.layouts.stacked import Delay, Parallel

FORMAT = "vqaudio token space"
VERSION = 1
SPACE_NAME = "space.json"

AnyLayout = Flat | CoarseFirst | Parallel | Delay


class Tokenized(Protocol):
    """An AudioTokenizer or Codes: what tells of which codes it makes, or is made."""

    @property
    def token_fingerprint(self) -> str: ...

    @property
    def codebook_sizes(self) -> tuple[int, ...]: ...

    @property
    def sample_rate(self) -> int: ...

    @property
    def hop_length(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class TokenSpace:
    """The contract between a tokenizer's codes, a sequence model and whoever decodes what it writes."""

    token_fingerprint: str  # of the tokenizer: SHA-256 in hex
    sample_rate: int  # Hz, of the tokenizer
    hop_length: int  # samples
    layout: AnyLayout  # its codebook_sizes may be fewer than the tokenizer has
    first_codebook: int = 0  # more: a fine stage, to which a coarse one gives the codebooks before
    padded_vocab_size: int | None = None  # rows of the model's embedding, if more than the ids in use

    def __post_init__(self) -> None:
        fingerprint = self.token_fingerprint
        if len(fingerprint) != 64 or set(fingerprint) - set("0123456789abcdef"):
            raise TokenError(f"token_fingerprint is {fingerprint!r}; it is a SHA-256 of 64 lower-case hex digits")
        for name, least in (("sample_rate", 1), ("hop_length", 1), ("first_codebook", 0)):
            if getattr(self, name) < least:
                raise TokenError(f"{name} is {getattr(self, name)}; it is {least} or more")
        if self.padded_vocab_size is not None and self.padded_vocab_size < self.layout.vocab_size:
            ids = f"the layout has ids up to {self.layout.vocab_size - 1}"
            raise TokenError(f"padded_vocab_size is {self.padded_vocab_size}, and {ids}")

    @classmethod
    def of(
        cls,
        tokenizer: Tokenized,
        layout: AnyLayout,
        *,
        first_codebook: int = 0,
        padded_vocab_size: int | None = None,
    ) -> "TokenSpace":
        """The space of a tokenizer's codes, or of some `Codes`, in a layout. TokenError if its sizes are others."""
        space = cls(
            token_fingerprint=tokenizer.token_fingerprint,
            sample_rate=tokenizer.sample_rate,
            hop_length=tokenizer.hop_length,
            layout=layout,
            first_codebook=first_codebook,
            padded_vocab_size=padded_vocab_size,
        )
        space.check_codes_of(tokenizer)
        return space

    # ---- facts

    @property
    def vocab_size(self) -> int:
        """Rows of the model's embedding."""
        return self.layout.vocab_size if self.padded_vocab_size is None else self.padded_vocab_size

    @property
    def special_ids(self) -> dict[str, int]:
        return self.layout.special_ids

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.sample_rate, self.hop_length)

    @property
    def tokens_per_second(self) -> Fraction:
        """Steps of a sequence for a second of audio."""
        return self.layout.tokens_per_second(self.frame_rate)

    @property
    def _codebooks(self) -> slice:
        return slice(self.first_codebook, self.first_codebook + self.layout.num_codebooks)

    # ---- there and back

    def to_tokens(self, codes: Codes, *, begin: bool = False, end: bool = False) -> Tensor:
        """Codes -> a sequence for each channel, (C, L) or (C, K, L). TokenError if they are another tokenizer's."""
        self.check_codes_of(codes)
        tokens = self.layout.to_tokens(codes.values[:, self._codebooks])
        return torch.stack([wrapped(self.layout, channel, begin=begin, end=end) for channel in tokens])

    def to_codes(
        self,
        tokens: Any,
        *,
        invalid: Policy = "refuse",
        num_samples: int | None = None,
        source_sample_rate: int | None = None,
        source_num_samples: int | None = None,
        coarse: Codes | None = None,
    ) -> Codes:
        """One sequence, or one for each channel (C, L) or (C, K, L) -> Codes that the tokenizer decodes.

        Tokens do not tell how long a recording is within its last frame: without `num_samples` it is that frame
        whole, and without the two of the source it has the model's rate. `num_samples` that needs other frames than
        there are is refused (CodesError), or left out with a TokenWarning. A space with a `first_codebook` needs the
        `coarse` codes before it, and gives them with its own.
        """
        values = integers(tokens, "tokens")
        codes = self.layout.to_codes(values, invalid=invalid)
        if codes.ndim == 2:
            codes = codes[None]  # (C, K, N)
        sizes = self.layout.codebook_sizes
        if self.first_codebook:
            codes, sizes = self._after(coarse, codes)
        N = codes.shape[-1]
        whole = N * self.hop_length
        if invalid != "refuse" and num_samples is not None and num_samples > whole:
            lost = f"{num_samples} samples were {-(-num_samples // self.hop_length)} frames, and {N} are there"
            warnings.warn(lost, TokenWarning, stacklevel=2)
            num_samples = None
        if num_samples is None:
            num_samples, source_sample_rate, source_num_samples = whole, None, None
        rate = source_sample_rate or self.sample_rate
        if source_num_samples is None:
            source_num_samples = num_samples * rate // self.sample_rate
        return Codes(
            codes,
            codebook_sizes=sizes,
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            num_samples=num_samples,
            source_sample_rate=rate,
            source_num_samples=source_num_samples,
            token_fingerprint=self.token_fingerprint,
        )

    def _after(self, coarse: Codes | None, codes: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The coarse codebooks, and after them these."""
        if coarse is None:
            raise TokenError(
                f"these tokens are of codebook {self.first_codebook} on: give the codes before as `coarse`"
            )
        if coarse.token_fingerprint != self.token_fingerprint:
            raise TokenError("the coarse codes are another tokenizer's")
        expected = (codes.shape[0], self.first_codebook, codes.shape[-1])
        if coarse.values.shape != expected:
            raise TokenError(f"the coarse codes have shape {tuple(coarse.values.shape)}; wanted is {expected}")
        return torch.cat([coarse.values, codes], dim=1), (*coarse.codebook_sizes, *self.layout.codebook_sizes)

    def valid_ids(self, step: int, num_frames: int | None = None) -> Tensor:
        """`Layout.valid_ids`, as wide as the model's embedding: (vocab_size,) or (K, vocab_size)."""
        mask = self.layout.valid_ids(step, num_frames)
        return torch.nn.functional.pad(mask, (0, self.vocab_size - mask.shape[-1]))

    def segments(self, ids: Any) -> list[slice]:
        """Where audio lies in a sequence (L,) of text and audio: from each begin to its end, both included.

        Without an end, up to the next begin or the end of the sequence: `to_codes(…, invalid="cut")` then says what is
        whole in it.
        """
        values = integers(ids, "ids")
        if values.ndim != 1:
            raise TokenError(f"ids have shape {tuple(values.shape)}; wanted is one sequence (L,)")
        starts = (values == self.special_ids["begin"]).nonzero()[:, 0].tolist()
        found = []
        for start, stop in pairwise([*starts, len(values)]):
            ends = (values[start:stop] == self.special_ids["end"]).nonzero()
            found.append(slice(start, start + int(ends[0]) + 1 if len(ends) else stop))
        return found

    # ---- whether two sides agree

    def check_codes_of(self, tokenizer: Tokenized) -> None:
        """TokenError, with each difference, if a tokenizer, or codes, are not what these tokens stand for."""
        facts = {
            "token_fingerprint": (self.token_fingerprint, tokenizer.token_fingerprint),
            "sample_rate": (self.sample_rate, tokenizer.sample_rate),
            "hop_length": (self.hop_length, tokenizer.hop_length),
            f"codebook_sizes from codebook {self.first_codebook} on": (
                tuple(self.layout.codebook_sizes),
                tuple(tokenizer.codebook_sizes[self._codebooks]),
            ),
        }
        differences = [_difference(name, *pair) for name, pair in facts.items() if pair[0] != pair[1]]
        if differences:
            raise TokenError(f"these tokens stand for other codes: {'; '.join(differences)}")

    def check_same(self, other: "TokenSpace") -> None:
        """TokenError, with each field that differs, here and there, unless the two are equal."""
        here, there = dict(_leaves(to_dict(self))), dict(_leaves(to_dict(other)))
        names = [*here, *(name for name in there if name not in here)]
        differences = [
            _difference(name, here.get(name, "absent"), there.get(name, "absent"))
            for name in names
            if here.get(name, "absent") != there.get(name, "absent")
        ]
        if differences:
            raise TokenError(f"the token spaces differ: {'; '.join(differences)}")

    # ---- the file

    def save(self, path: str | Path) -> None:
        """Write the file, complete or not at all."""
        document = {"format": FORMAT, "version": VERSION, **to_dict(self), "derived": self._derived()}
        with write_aside(path) as partial:
            partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, *, expected: "TokenSpace | None" = None) -> "TokenSpace":
        """Read the file; TokenError names it if it is missing, foreign, altered, or not the space that is expected."""
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise TokenError(f"{path}: cannot be opened ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise TokenError(f"{path}: is no token space, which are JSON ({error})") from error
        try:
            space = cls._from_document(document)
            if expected is not None:
                space.check_same(expected)
        except ValueError as error:
            raise TokenError(f"{path}: {error}") from error
        return space

    @classmethod
    def _from_document(cls, document: Any) -> "TokenSpace":
        kind = document.pop("format", None) if isinstance(document, dict) else None
        if kind != FORMAT:
            raise TokenError(f"is no token space; its format is {kind!r}, and not {FORMAT!r}")
        version = document.pop("version", None)
        if version not in range(1, VERSION + 1) or isinstance(version, bool):
            raise TokenError(f"has format version {version!r}, and this vqaudio reads up to {VERSION}")
        derived = document.pop("derived", None)
        if isinstance(document.get("layout"), dict) and "kind" not in document["layout"]:
            raise TokenError("'layout.kind' is missing")  # `from_dict` would take the first
        space = from_dict(cls, document)
        if derived != space._derived():
            raise TokenError(f"'derived' does not follow from the fields: {derived}, and not {space._derived()}")
        return space

    def _derived(self) -> dict[str, Any]:
        return {
            "vocab_size": self.vocab_size,
            "special_ids": self.special_ids,
            "code_offsets": list(self.layout.code_offsets),
            "frame_rate": str(self.frame_rate),
        }


def _difference(name: str, here: object, there: object) -> str:
    return f"{name} is {here} here and {there} there"


def _leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
