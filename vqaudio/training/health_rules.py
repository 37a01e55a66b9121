"""What the numbers of a run say of its codebooks and discriminators: pure functions, and the thresholds behind them.

Every rule names something that has cost others long runs, and is quiet on runs that were not ill: the shipped logs
(vqaudio/pretrained/*/log.jsonl) are tests of that. Where a threshold comes from is said beside it. A *stretch* is a
number of training lines in a row, since a single batch proves nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Of V, or of the frames seen if they are fewer. Shipped codebooks stand at 0.6 to 0.8 and a young VQ-VAE at 0.4;
# collapsed ones at a few codes, and codebooks ruined by a strong commitment loss at a few tens of 1024.
LEAST_PERPLEXITY = 0.1
# Validations in a row before a low perplexity or a useless level is told; one is enough below that many codes.
PATIENCE, ALMOST_ONE_CODE = 2, 2.0
# Count, in uniform ones, that a code begins with which splits another of more than that: half of it, about.
SPLIT_COUNT = 0.75
# Codebooks are not judged before codes that died right after k-means were revived twice over, or before so many steps
# where none is revived: vqvae_16k, quantised from step 50, has a perplexity of 20 of 512 at step 200, and 310 at 500.
REVIVALS_BEFORE_JUDGING, UNREVIVED_STEPS = 2.0, 200
# A level has to take this part away of what it receives. The least useful level of the shipped models takes 5 %.
LEAST_TAKEN = 0.01
# Energies under this are not judged: the chain has said all there is, and rounding in the log would decide.
NEGLIGIBLE_ENERGY = 0.01
STRETCH = 25  # training lines, 500 steps at the default of one line in 20
# Part of a codebook that is replaced in the time that an unused code takes to die. A little is the tail of every
# codebook: the worst stretch of the shipped runs had 0.13, a codebook of which data uses a tenth about 0.4.
MOST_DYING = 0.3
MOST_SKIPPED, SKIPPED_WITHIN = 10, 1000  # batches, of so many steps
WON, RISING = 0.1, 1.05  # part of the loss at chance; feature matching at the end of a stretch over that at its start
# Distance from the loss at chance, relative; for so many steps. All begin there, and learn slowly while they warm up.
BLIND, BLIND_STEPS = 0.02, 1000


@dataclass(frozen=True)
class CodebookHealth:
    """One codebook, as lines of the log tell; None for what they do not hold."""

    size: int
    used: int | None = None  # codes seen on the validation clips
    perplexity: float | None = None  # 2 ** entropy: as many codes, all used alike, would carry as much
    entropy_bits: float | None = None
    residual_energy: float | None = None  # what is left after this level, of the variance of the latents
    revived: float | None = None  # dead codes replaced in a batch, mean over the training lines given

    @property
    def perplexity_share(self) -> float | None:
        return None if self.perplexity is None else self.perplexity / self.size

    @property
    def efficiency(self) -> float | None:
        """Entropy of the bits that a code of this codebook costs; None for a codebook of one code."""
        return None if self.entropy_bits is None or self.size < 2 else self.entropy_bits / math.log2(self.size)


def codebook_health(
    codebook_sizes: Sequence[int], scores: Mapping[str, Any], training: Sequence[Mapping[str, Any]] = ()
) -> list[CodebookHealth]:
    """Every codebook, from a validation line, and from training lines over which revived codes are averaged."""

    def of(values: Mapping[str, Any], name: str, index: int) -> Any:
        row = values.get(name)
        return row[index] if isinstance(row, list) and index < len(row) else None

    healths = []
    for index, size in enumerate(codebook_sizes):
        revived = [count for values in training if (count := of(values, "revived", index)) is not None]
        healths.append(
            CodebookHealth(
                size,
                used=of(scores, "used", index),
                perplexity=of(scores, "perplexity", index),
                entropy_bits=of(scores, "entropy_bits", index),
                residual_energy=of(scores, "residual_energy", index),
                revived=sum(revived) / len(revived) if revived else None,
            )
        )
    return healths


def low_perplexity(
    perplexity: Sequence[float], codebook_sizes: Sequence[int], *, num_frames: int | None = None
) -> list[int]:
    """The codebooks that say much less than they could, as far as `num_frames` validation frames can show."""
    found = []
    for index, (value, size) in enumerate(zip(perplexity, codebook_sizes, strict=False)):
        reachable = size if num_frames is None else min(size, num_frames)
        if not value >= LEAST_PERPLEXITY * reachable:
            found.append(index)
    return found


def useless_levels(residual_energy: Sequence[float]) -> list[int]:
    """The levels after which hardly less is left than before them, or more than there was before any."""
    found = []
    before = 1.0
    for index, energy in enumerate(residual_energy):
        if not energy < NEGLIGIBLE_ENERGY and not energy <= min(1.0, before * (1.0 - LEAST_TAKEN)):
            found.append(index)
        before = energy
    return found


def dying_share(
    revived: Sequence[Sequence[float]], codebook_sizes: Sequence[int], *, batches_to_die: float
) -> list[float]:
    """Part of each codebook that is replaced in `batches_to_die` batches: of the thirds of a stretch the least, so that
    a burst is not taken for a steady state.

    It is less than the part without use: a code set on one that is used takes some of it over, and both die later.
    """
    shares = []
    for index, size in enumerate(codebook_sizes):
        counts = [line[index] for line in revived if index < len(line)]
        third = len(counts) // 3
        if third == 0 or not math.isfinite(batches_to_die):
            shares.append(0.0)
            continue
        least = min(sum(counts[first : first + third]) for first in (0, third, len(counts) - third)) / third
        shares.append(min(1.0, least * batches_to_die / size))
    return shares


def batches_to_die(*, ema_decay: float, revive_below: float, revival: str = "vector") -> float:
    """After how many batches without use a revived code is revived again; infinite if none ever is."""
    start = SPLIT_COUNT if revival == "split" else 1.0
    if not (0 < ema_decay < 1 and 0 < revive_below < start):
        return math.inf
    return math.log(revive_below / start) / math.log(ema_decay)


def has_won(discriminator: Sequence[float], feature_matching: Sequence[float], *, chance: float) -> bool:
    """Whether the discriminators tell everything apart while the codec moves away from what they look for."""
    third = len(feature_matching) // 3
    if third == 0 or len(discriminator) == 0:
        return False
    rose = sum(feature_matching[-third:]) > RISING * sum(feature_matching[:third])
    return rose and sum(discriminator) / len(discriminator) < WON * chance


def is_blind(discriminator: float, *, chance: float) -> bool:
    """Whether a loss is neither better nor worse than that of one that gives everything the same verdict."""
    return abs(discriminator - chance) <= BLIND * chance


# ---- what a recipe says, as a plain tree, also one of an older version


def codebook_sizes(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The sizes that a recipe, as a plain tree, gives its codebooks; none for a kind of quantiser not known here."""
    quantizer = table(table(settings, "codec"), "quantizer")
    levels, size = quantizer.get("levels"), quantizer.get("codebook_size")
    if isinstance(levels, list | tuple):
        size = math.prod(levels)
    return (size,) * quantizer.get("num_codebooks", 1) if isinstance(size, int) else ()


def num_validation_frames(settings: Mapping[str, Any]) -> int | None:
    """How many frames a recipe's validation clips have if each is as long as it may be; None if it does not say."""
    codec, report = table(settings, "codec"), table(settings, "report")
    strides = table(codec, "encoder").get("strides")
    clips, seconds = report.get("validation_clips"), report.get("validation_seconds")
    if not strides or not clips or not seconds or "sample_rate" not in codec:
        return None
    return int(clips * seconds * codec["sample_rate"] / math.prod(strides))


def table(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = tree.get(name)
    return value if isinstance(value, Mapping) else {}
