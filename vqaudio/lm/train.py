"""The training procedure of a language model: packed rows -> logits -> step, with validation, checkpoints and resume.

A run's folder is that of `vqaudio train`: log.jsonl, checkpoint-00000200/, best/ and in the end model/, which is the
best on the validation recordings. What is drawn is keyed by (seed, step); a run that goes on is the run that never
stopped, bit for bit on the same machine.
"""

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional as F

from vqaudio.code_index import read_index
from vqaudio.config import to_dict
from vqaudio.device import usable
from vqaudio.layouts import Delay, Flat, TokenError, TokenSpace
from vqaudio.lm.config import LMOptimizerConfig, LMRecipe
from vqaudio.lm.dataset import PackedDataset, Tracks
from vqaudio.lm.folder import CodeFolder, CodeItem
from vqaudio.lm.model import LanguageModel, code_bits, load_lm, rows_of, save_lm
from vqaudio.lm.sampler import ResumableBatches
from vqaudio.shipped import model_of_tokens
from vqaudio.tokenizer import AudioTokenizer
from vqaudio.training.history import flat
from vqaudio.training.log import ProgressLine, RunLog
from vqaudio.training.state import (
    Checkpoint,
    RunState,
    checkpoints,
    module_bytes,
    moments_bytes,
    newest_checkpoint,
    restore_moments,
    save_checkpoint,
)
from vqaudio.training.stopping import RunFailedError, RunStoppedError, StopRequest


@dataclass
class Learner:
    """All that a run changes."""

    model: LanguageModel
    optimizer: torch.optim.Optimizer

    def files(self) -> dict[str, bytes]:
        return {"model.safetensors": module_bytes(self.model), "optimizer.safetensors": moments_bytes(self.optimizer)}

    def restore(self, files: dict[str, bytes]) -> None:
        self.model.load_state_dict(load(files["model.safetensors"]))
        restore_moments(self.optimizer, load(files["optimizer.safetensors"]))


def space_of(recipe: LMRecipe, tokenizer: AudioTokenizer) -> TokenSpace:
    """The first codebooks of the tokenizer, in the recipe's layout."""
    if recipe.num_codebooks > tokenizer.num_codebooks:
        raise ValueError(
            f"the recipe wants {recipe.num_codebooks} codebooks; {recipe.tokenizer} has {tokenizer.num_codebooks}"
        )
    sizes = tokenizer.codebook_sizes[: recipe.num_codebooks]
    layout = Delay(codebook_sizes=sizes) if recipe.layout == "delay" else Flat(codebook_sizes=sizes)
    return TokenSpace.of(tokenizer, layout)


def _check_codes(recipe: LMRecipe, tokenizer: AudioTokenizer, folder: CodeFolder, codes: str | Path) -> None:
    try:
        space_of(recipe, tokenizer).check_codes_of(folder)
    except TokenError as error:
        made_by = model_of_tokens(folder.token_fingerprint)
        raise TokenError(
            f"the codes in {codes} are of {made_by}, and the recipe's tokenizer is {recipe.tokenizer}: say --tokenizer "
            f"or make codes with `vqaudio encode --model {recipe.tokenizer}` ({error})"
        ) from error


def build_model(recipe: LMRecipe, tokenizer: AudioTokenizer) -> LanguageModel:
    """A new model, of random weights that follow from the recipe's seed."""
    space = space_of(recipe, tokenizer)
    window = round(recipe.data.window_seconds * float(space.tokens_per_second))
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model = LanguageModel(recipe.model, space, window=window)
    if recipe.model.codebook_start:
        vectors = [tokenizer.codebook(level) for level in range(recipe.num_codebooks)]
        model.start_from(vectors, generator=torch.Generator().manual_seed(recipe.seed))
    return model


def train_lm(
    recipe: LMRecipe,
    codes: str | Path,
    out: str | Path,
    *,
    resume: Literal["auto", "never"] = "never",
    device: str = "cpu",
) -> Path:
    """Train on the split `train` of a folder of codes; returns the model folder `out/model`, the best on its `valid`.

    With resume="auto" the newest whole checkpoint is continued, or a new run begun if there is none; without, a folder
    that holds a run is refused. SIGTERM and Ctrl-C save a checkpoint, then RunStoppedError is raised.
    """
    out = Path(out)
    if resume == "never" and checkpoints(out):
        raise ValueError(f"{out} already holds a run; continue it with --resume auto, or choose another --out")
    usable(device)
    folder, made_of = CodeFolder(codes), folder_hash(codes)
    tokenizer = AudioTokenizer.from_pretrained(recipe.tokenizer)
    _check_codes(recipe, tokenizer, folder, codes)
    model = build_model(recipe, tokenizer).to(device)
    learner = Learner(model, _optimizer(model, recipe.optimizer))
    checkpoint, damaged = newest_checkpoint(out) if resume == "auto" else (None, [])
    state, settings = RunState(0, recipe.steps, 0.0, 0), to_dict(recipe)
    log = RunLog(out)
    if checkpoint is not None:
        _check_same(checkpoint, settings, made_of)
        state = checkpoint.state
        learner.restore(checkpoint.files)
        log.truncate_after(state.step, state.logged)
        log.write("resume", state.step, damaged=damaged)
    elif damaged:
        raise ValueError(f"{out} holds a run of which no checkpoint can be read: {'; '.join(damaged)}; delete these")
    else:
        out.mkdir(parents=True, exist_ok=True)
        size = sum(parameter.numel() for parameter in model.parameters())
        log.write("start", 0, recipe=settings, codes=made_of, parameters=size, device=device)
    return _Run(recipe, folder, made_of, out, learner, state, log).go()


class _Run:
    def __init__(
        self,
        recipe: LMRecipe,
        folder: CodeFolder,
        made_of: str,
        out: Path,
        learner: Learner,
        state: RunState,
        log: RunLog,
    ) -> None:
        self.recipe, self.made_of, self.out, self.learner = recipe, made_of, out, learner
        self.state, self.log, self.settings = state, log, to_dict(recipe)
        space = learner.model.space
        rows = learner.model.window + 1  # the last step of a row is only predicted
        self.rows = PackedDataset(
            folder.select(split="train"), space, num_steps=rows, seed=recipe.seed, end=not space.layout.stacked
        )
        self.batches = ResumableBatches(self.rows, batch_size=recipe.data.batch_size, seed=recipe.seed, drop_last=True)
        self.valid = [codes for _, codes in recordings_of(folder.select(split="valid"), space)]
        count = min(recipe.report.validation_recordings, len(self.valid))
        self.valid = [self.valid[index * len(self.valid) // count] for index in range(count)]
        self.saved = state.step

    def go(self) -> Path:
        recipe, report, state = self.recipe, self.recipe.report, self.state
        line, stop = ProgressLine(recipe.steps), StopRequest()
        losses: list[float] = []
        with stop.listening():
            while state.step < recipe.steps:
                started = time.monotonic()
                losses.append(self._step())
                state.step += 1
                state.seconds += time.monotonic() - started
                line.update(state.step, f"{losses[-1]:.3f} bits a code")
                if self._due(report.log_every) or self._due(report.checkpoint_every):  # what no checkpoint keeps
                    rate = learning_rate(recipe.optimizer, state.step - 1, recipe.steps)
                    mean = sum(losses) / len(losses)
                    self.log.write("train", state.step, bits=mean, learning_rate=rate, seconds=state.seconds)
                    losses = []
                if self._due(report.validate_every):
                    self._validate()
                if self._due(report.checkpoint_every):
                    self._checkpoint()
                if stop.signal_number and state.step < recipe.steps:
                    self._checkpoint()
                    raise RunStoppedError(
                        f"stopped at step {state.step}; --resume auto goes on there", stop.signal_number
                    )
        line.close()
        return self._export()

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.recipe.steps

    def _step(self) -> float:
        """One batch; returns its bits per code."""
        model, optimizer, config = self.learner.model.train(), self.learner.optimizer, self.recipe.optimizer
        step = self.state.step
        # on the CPU, so that one seed means the same on every device
        generator = torch.Generator().manual_seed((self.recipe.seed << 32) + step)
        drawn = [self.rows[index]["tokens"] for index in self.batches.batch(step)]
        tokens = rows_of(torch.stack(drawn), model.space.layout.stacked).to(model.device)  # (B, R, window + 1)
        with torch.autocast("cuda", torch.bfloat16, enabled=model.device.type == "cuda"):
            logits = model(tokens[..., :-1], generator=generator)  # float32
        loss = token_loss(model, logits, tokens[..., 1:])
        bits = loss.item() / math.log(2)
        if not math.isfinite(bits):
            raise RunFailedError(f"step {step}: the loss is {bits}; lower optimizer.learning_rate")
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step, self.recipe.steps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        return bits

    def _validate(self) -> None:
        """Bits on the validation recordings; the model of the fewest is kept as `best/`."""
        model, state = self.learner.model, self.state
        bits = torch.cat(code_bits(model, self.valid), dim=1)  # (K, N)
        per_second = float(bits.mean(dim=1).sum() * float(model.space.frame_rate))
        of_codebooks = [round(value, 4) for value in bits.mean(dim=1).tolist()]
        self.log.write("validation", state.step, bits_per_second=round(per_second, 2), bits=of_codebooks)
        if math.isfinite(per_second) and (state.best is None or per_second < state.best):
            state.best = per_second
            self._save("best", per_second)

    def _checkpoint(self) -> None:
        if self.state.step == self.saved:
            return
        self.state.logged = self.log.size
        save_checkpoint(
            self.out,
            self.state,
            self.learner,
            settings=self.settings,
            parent=None,
            packs=self.made_of,
            keep=self.recipe.report.keep_checkpoints,
        )
        self.saved = self.state.step

    def _save(self, name: str, per_second: float) -> None:
        model, state = self.learner.model, self.state
        about = {
            "recipe": self.settings,
            "step": state.step,
            "training_seconds": round(state.seconds, 1),
            "valid_bits_per_second": round(per_second, 2),
            "codes": self.made_of,
        }
        save_lm(model, self.out / name, tokenizer=self.recipe.tokenizer, about=about, card=_card(self.recipe, model))

    def _export(self) -> Path:
        """`best/` as `model/`."""
        best = load_lm(self.out / "best")
        card = _card(self.recipe, best.model)
        save_lm(best.model, self.out / "model", tokenizer=best.tokenizer, about=best.about, card=card)
        return self.out / "model"


def token_loss(model: LanguageModel, logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy (nats) of logits (B, R, L, V) with the tokens that came, (B, R, L), but for pad and begin."""
    layout = model.space.layout
    labels = targets.masked_fill(~layout.loss_mask(targets), -100)
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def learning_rate(config: LMOptimizerConfig, step: int, total_steps: int) -> float:
    """Linear warm-up, then a cosine to `final_fraction` at the end of the budget."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / total_steps))
    return config.learning_rate * warmup * (config.final_fraction + (1.0 - config.final_fraction) * cosine)


def _optimizer(model: LanguageModel, config: LMOptimizerConfig) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas)


def _check_same(checkpoint: Checkpoint, settings: dict[str, Any], made_of: str) -> None:
    """Another recipe, or other recordings, would silently train something else."""
    if checkpoint.settings != settings:
        ours, theirs = dict(flat(settings)), dict(flat(checkpoint.settings))
        different = [name for name in ours | theirs if ours.get(name, ...) != theirs.get(name, ...)]
        raise ValueError(
            f"{checkpoint.path} was made with other settings ({', '.join(different)}); resume with the same recipe or "
            "choose another --out"
        )
    if checkpoint.packs != made_of:
        raise ValueError(f"{checkpoint.path} was made with other codes; resume with the same")


def recordings_of(folder: CodeFolder, space: TokenSpace) -> list[tuple[CodeItem, Tensor]]:
    """Codes (K, N) of the space's codebooks, one for each channel that has frames."""
    tracks = Tracks(folder, space)
    return [(tracks.item(track), tracks.values(track)) for track in range(len(tracks)) if tracks.item(track).num_frames]


def folder_hash(codes: str | Path) -> str:
    """SHA-256 of which recordings a folder of codes has, with what codes, in which splits."""
    digest = hashlib.sha256()
    for name, entry in read_index(codes).items():
        digest.update(f"{name}\t{entry.sha256}\t{entry.split}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _card(recipe: LMRecipe, model: LanguageModel) -> str:
    size = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"# {recipe.name}\n\nA language model of {size / 1e6:.1f} M parameters over the first {recipe.num_codebooks} "
        f"codebooks of `{recipe.tokenizer}`, in layout `{recipe.layout}`. `vqaudio lm sample` writes with it.\n\n"
        "It was trained on little speech and makes sounds of speech, not words. What it says was said by nobody.\n"
    )
