"""Is a run going wrong? A watch over its log that says what looks wrong and what has helped, each cause once.

The rules are in `health_rules.py`. `HealthCheck` remembers what it has said, in memory only, until the cause has gone;
a resumed run starts it anew.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqaudio.training.health_rules import (
    ALMOST_ONE_CODE,
    BLIND_STEPS,
    MOST_DYING,
    MOST_SKIPPED,
    PATIENCE,
    REVIVALS_BEFORE_JUDGING,
    SKIPPED_WITHIN,
    STRETCH,
    UNREVIVED_STEPS,
    WON,
    batches_to_die,
    codebook_sizes,
    dying_share,
    has_won,
    is_blind,
    low_perplexity,
    num_validation_frames,
    table,
    useless_levels,
)
from vqaudio.training.history import History


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong: a name that stays the same, what was seen, and what has helped."""

    name: str
    message: str
    remedy: str


# What has helped, by the names of settings.
REMEDIES = {
    "codebook collapse": "Lower optimizer.learning_rate. Where the commitment loss grows without end raise "
    "losses.commitment, else lower it. Let k-means see more latents that mean something (quantizer.quantize_after 200 "
    "to 500, quantizer.fit_batches for ten vectors a code), and keep codec.quantizer.revive_below above 0. A quantiser "
    "of kind fsq has nothing to collapse.",
    "levels that add nothing": "Residual energy has to fall from level to level. Normalise inputs and codes both or "
    "neither (codec.quantizer.normalize); keep losses.residual at 1 where levels are projected; lower "
    "optimizer.learning_rate; start by k-means on enough latents (quantizer.fit_batches). If only the last levels are "
    "named, they are too many.",
    "codes that keep dying": "A rare code that is replaced for being rare never learns: let codes be reborn by "
    'splitting others (codec.quantizer.revival = "split"), lower codec.quantizer.revive_below or raise ema_decay. '
    "If perplexity is low too, do as for a collapse; if it is high, the data has no use for so many codes: lower "
    "codec.quantizer.codebook_size.",
    "losses not finite": "Look whether the same recordings come back in the `skipped` lines of the log, and take those "
    "out of the packs. If not, the model is leaving: lower optimizer.learning_rate or optimizer.clip_norm, and go on "
    "from a checkpoint before it began.",
    "discriminators have won": "The codec learns nothing from them any more. Lower adversarial.learning_rate or "
    "losses.adversarial; begin later, when reconstruction has settled (stages.reconstruction).",
    "discriminators are blind": "Raise adversarial.learning_rate; look whether their gradient norm is above 0, and "
    "whether they see the audio that the codec makes now.",
}


class HealthCheck:
    """Looks at the lines of a log as they come. `training`, `validation` and `skipped` return what is new.

    `num_frames`: how many frames the validation clips have in all. `chance`: what the loss of a blind discriminator is
    (2 for hinge, 0.5 for least squares).
    """

    def __init__(
        self,
        codebook_sizes: Sequence[int],
        *,
        num_frames: int | None = None,
        batches_to_die: float = 53.0,  # of codec.quantizer.ema_decay = 0.97 and revive_below = 0.2
        chance: float = 2.0,
    ) -> None:
        self.codebook_sizes, self.num_frames = tuple(codebook_sizes), num_frames
        self.batches_to_die, self.chance = batches_to_die, chance
        self.has_judged = False  # any codebook yet, on validation clips
        self._begun: int | None = None  # the first step seen with the quantiser at work
        self._low: dict[tuple[str, int], int] = {}  # (cause, codebook) -> validations in a row
        self._told: set[tuple[str, int]] = set()
        self._revived: deque[Sequence[float]] = deque(maxlen=STRETCH)
        self._discriminator: deque[float] = deque(maxlen=STRETCH)
        self._feature_matching: deque[float] = deque(maxlen=STRETCH)
        self._blind_since: int | None = None
        self._skipped: deque[int] = deque(maxlen=MOST_SKIPPED)

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, num_frames: int | None = None) -> "HealthCheck":
        """For a run by its recipe as a plain tree (`to_dict`, or the start line of a log), also of older versions.

        Without `num_frames` the recipe's clips are taken to be as long as they may be.
        """
        quantizer = table(table(settings, "codec"), "quantizer")
        decay, below = quantizer.get("ema_decay"), quantizer.get("revive_below")
        dying = {"ema_decay": decay, "revive_below": below, "revival": quantizer.get("revival", "vector")}
        return cls(
            codebook_sizes(settings),
            num_frames=num_validation_frames(settings) if num_frames is None else num_frames,
            batches_to_die=batches_to_die(**dying) if decay and below else math.inf,
            chance=0.5 if table(settings, "adversarial").get("game") == "least_squares" else 2.0,
        )

    def validation(self, step: int, scores: Mapping[str, Any]) -> list[Finding]:
        found = []
        perplexity, energy = scores.get("perplexity") or [], scores.get("residual_energy") or []
        if not self._settled(step, scores):
            return []
        self.has_judged = True
        low = low_perplexity(perplexity, self.codebook_sizes, num_frames=self.num_frames)
        at_once = [k for k in low if self.codebook_sizes[k] > 16 and perplexity[k] < ALMOST_ONE_CODE]
        if new := self._lasting("perplexity", low, at_once):
            seen = _listed([f"{perplexity[k]:.4g} of {self.codebook_sizes[k]:,}" for k in new])
            found.append(_finding("codebook collapse", f"{_codebooks(new)}: perplexity {seen} on the validation clips"))
        if new := self._lasting("residual energy", useless_levels(energy), []):
            seen = _listed([f"{(1.0, *energy)[k]:.3g} before and {energy[k]:.3g} after" for k in new])
            found.append(_finding("levels that add nothing", f"{_codebooks(new)}: residual energy {seen}"))
        return found

    def training(self, step: int, values: Mapping[str, Any]) -> list[Finding]:
        found = []
        loss, revived, discriminator = (values.get(name) for name in ("loss", "revived", "discriminator"))
        if isinstance(loss, float) and not math.isfinite(loss):
            found += self.skipped(step)
        elif self._skipped and self._skipped[-1] <= step - SKIPPED_WITHIN:
            self._told.discard(("skipped", 0))
        if self._settled(step, values) and revived:
            self._revived.append(revived)
            found += self._dying()
        if isinstance(discriminator, int | float):
            self._discriminator.append(float(discriminator))
            self._feature_matching.append(float(values.get("feature_matching", 0.0)))
            found += self._game(step)
        return found

    def skipped(self, step: int) -> list[Finding]:
        """A batch was left out because something in it, its loss or its gradient was not finite."""
        self._skipped.append(step)
        first = self._skipped[0]
        if len(self._skipped) < MOST_SKIPPED or first <= step - SKIPPED_WITHIN or not self._new("skipped"):
            return []
        return [_finding("losses not finite", f"{MOST_SKIPPED} of the last {step - first + 1:,} batches were left out")]

    def _dying(self) -> list[Finding]:
        if len(self._revived) < STRETCH:
            return []
        shares = dying_share(self._revived, self.codebook_sizes, batches_to_die=self.batches_to_die)
        new = self._lasting("revived", [k for k, share in enumerate(shares) if share >= MOST_DYING], [], patience=1)
        if not new:
            return []
        seen = _listed([f"{100 * shares[k]:.0f} %" for k in new])
        text = (
            f"{_codebooks(new)}: about {seen} of the codes are replaced in {self.batches_to_die:.0f} batches, on and on"
        )
        return [_finding("codes that keep dying", text)]

    def _game(self, step: int) -> list[Finding]:
        losses, matching = list(self._discriminator), list(self._feature_matching)
        mean = sum(losses) / len(losses)
        won = len(losses) == STRETCH and has_won(losses, matching, chance=self.chance)
        if not is_blind(losses[-1], chance=self.chance):
            self._blind_since = None
            self._told.discard(("blind", 0))
        elif self._blind_since is None:
            self._blind_since = step
        blind = self._blind_since is not None and step - self._blind_since >= BLIND_STEPS
        found = []
        if won and self._new("won"):
            text = f"their loss is {mean:.3g}, and feature matching has risen to {matching[-1]:.3g}"
            found.append(_finding("discriminators have won", text))
        if blind and self._new("blind"):
            text = f"their loss has stayed at {mean:.3g}, as for one that gives everything the same verdict"
            found.append(_finding("discriminators are blind", text))
        if mean >= WON * self.chance:  # while it is low, feature matching need not rise on and on
            self._told.discard(("won", 0))
        return found

    def _settled(self, step: int, values: Mapping[str, Any]) -> bool:
        """Whether codes that died right after k-means have had the time to be revived and found of use."""
        if self._begun is None and (values.get("residual_energy") or values.get("perplexity")):
            self._begun = step
        wait = REVIVALS_BEFORE_JUDGING * self.batches_to_die if math.isfinite(self.batches_to_die) else UNREVIVED_STEPS
        return self._begun is not None and step - self._begun >= wait

    def _new(self, cause: str) -> bool:
        new = (cause, 0) not in self._told
        self._told.add((cause, 0))
        return new

    def _lasting(self, cause: str, codebooks: list[int], at_once: list[int], *, patience: int = PATIENCE) -> list[int]:
        """Of the codebooks that look bad now, those that have for long enough and were not told. The others recover."""
        self._told -= {key for key in self._told if key[0] == cause and key[1] not in codebooks}
        self._low = {key: count for key, count in self._low.items() if key[0] != cause or key[1] in codebooks}
        for index in codebooks:
            self._low[cause, index] = self._low.get((cause, index), 0) + 1
        new = [
            index
            for index in codebooks
            if (cause, index) not in self._told and (index in at_once or self._low[cause, index] >= patience)
        ]
        self._told.update((cause, index) for index in new)
        return new


def replay(history: History, check: HealthCheck | None = None) -> list[tuple[int, Finding]]:
    """What a health check would have said over a log, with the steps; `check` is one made for its recipe."""
    check = HealthCheck.of(history.settings) if check is None else check
    found = []
    for entry in history.entries:
        step = entry["step"]
        if entry["kind"] == "validation":
            found += [(step, finding) for finding in check.validation(step, entry)]
        elif entry["kind"] == "train":
            found += [(step, finding) for finding in check.training(step, entry)]
        elif entry["kind"] == "skipped":
            found += [(step, finding) for finding in check.skipped(step)]
    return found


def _finding(name: str, message: str) -> Finding:
    return Finding(name, message, REMEDIES[name])


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts) if len(texts) <= 3 else f"{texts[0]}, {texts[1]}, …, {texts[-1]}"


def _codebooks(indices: Sequence[int]) -> str:
    first, last = indices[0] + 1, indices[-1] + 1
    if len(indices) > 2 and last - first + 1 == len(indices):
        return f"codebooks {first} to {last}"
    return f"codebook{'s' * (len(indices) > 1)} {', '.join(str(index + 1) for index in indices)}"
