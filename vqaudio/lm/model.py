"""A language model over codes: an embedding for each row of tokens, transformers' Llama, a head for each row.

    tokens (B, R, L)   row 0   begin  a0  a1  a2        R = K rows if the layout is stacked (delays, MusicGen,
                       row 1   begin  -   b0  b1        arXiv 2306.05284), R = 1 if it is flat
                                │     │   │   │   sum of the rows' embeddings
                              causal transformer (width, RoPE, RMSNorm, SwiGLU)
                                │     │   │   │   a head for each row
    logits (B, R, L, V)       a0 -  a1 b0 ...         what comes next

With delays of one step each code is predicted from the lower codes of its frame and from the past, of which the last
frames of higher codebooks are not there yet: a2 sees b0, and not b1. Flat sees all, at K times the steps. `window` is
how many steps the model was trained to look back over; longer sequences are read in windows that overlap by half.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.config import from_dict, to_dict
from vqaudio.device import usable
from vqaudio.io import write_aside
from vqaudio.layouts import TokenSpace
from vqaudio.layouts.space import SPACE_NAME
from vqaudio.lm.config import LMConfig

if TYPE_CHECKING:
    from transformers import DynamicCache

FORMAT, VERSION = "vqaudio language model", 1
CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "card.md"
INSTALL = "pip install 'vqaudio[hf]'"
LOGIT_SCALE = 0.5  # spread of logits at the start, from heads that begin as codebooks: little is claimed


class LanguageModel(nn.Module):
    """See the top of this file. Rows share one size of vocabulary, that of the space."""

    def __init__(self, config: LMConfig, space: TokenSpace, *, window: int) -> None:
        super().__init__()
        self.config, self.space, self.window = config, space, window
        self.num_rows = space.layout.num_codebooks if space.layout.stacked else 1
        V = space.vocab_size
        self.embedding = nn.Embedding(self.num_rows * V, config.width)
        nn.init.normal_(self.embedding.weight, std=0.5 * self.num_rows**-0.5)
        self.backbone = _backbone(config, window)
        self.head = nn.Linear(config.width, self.num_rows * V)
        nn.init.normal_(self.head.weight, std=LOGIT_SCALE * config.width**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, tokens: Tensor, *, cache: "DynamicCache | None" = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Tokens (B, R, L) -> logits (B, R, L, V) float32 of the token after each step.

        `cache` holds the steps before, and is extended by these. In training mode `generator` (on the CPU) draws what
        is dropped.
        """
        B, R, L = tokens.shape
        V = self.space.vocab_size
        rows = torch.arange(R, device=tokens.device)[:, None] * V
        parts = self.embedding(tokens + rows)  # (B, R, L, width)
        if self.training:
            parts = parts * self._kept((B, R, L, 1), self.config.code_dropout, generator, tokens.device)
        x = parts.sum(dim=1)
        x = self._dropped(x, generator)
        x = self.backbone(inputs_embeds=x, cache=cache, use_cache=cache is not None).last_hidden_state
        x = self._dropped(x, generator)
        return rearrange(self.head(x), "b l (r v) -> b r l v", v=V).float()

    def new_cache(self) -> "DynamicCache":
        """For `forward`: no steps yet."""
        from transformers import DynamicCache

        return DynamicCache(config=self.backbone.config)

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @torch.no_grad()
    def start_from(self, codebooks: Sequence[Tensor], *, generator: torch.Generator) -> None:
        """Let embeddings and heads of codes begin as the codec's vectors, (V, D) for each codebook, rotated at random.

        Codes that sound alike are then alike from the first step on, and what is learnt of one holds for the others.
        Unlike in `embeddings_from_codebooks` each codebook has a rotation of its own, as the rows of a step are summed.
        """
        layout, V, width = self.space.layout, self.space.vocab_size, self.config.width
        for k, vectors in enumerate(codebooks):
            D = vectors.shape[1]
            rotation = torch.linalg.qr(torch.randn(max(D, width), max(D, width), generator=generator)).Q[:D, :width]
            centred = (vectors - vectors.mean(dim=0)) @ rotation
            centred = centred / centred.pow(2).mean().sqrt().clamp_min(1e-12)  # codes may be all alike
            row = k if layout.stacked else 0
            first = row * V + layout.code_offsets[k]
            places = slice(first, first + len(vectors))
            self.embedding.weight[places] = 0.5 * self.num_rows**-0.5 * centred
            self.head.weight[places] = LOGIT_SCALE * width**-0.5 * centred

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or not self.config.dropout:
            return x
        keep = 1.0 - self.config.dropout
        return x * self._kept(tuple(x.shape), self.config.dropout, generator, x.device) / keep

    @staticmethod
    def _kept(
        shape: tuple[int, ...], dropped: float, generator: torch.Generator | None, device: torch.device
    ) -> Tensor:
        return (torch.rand(shape, generator=generator) >= dropped).to(device)


def _backbone(config: LMConfig, window: int) -> Any:
    try:
        from transformers import LlamaConfig, LlamaModel
    except ImportError as error:
        raise ImportError(f"language models need transformers, which is not installed: {INSTALL}") from error
    model = LlamaModel(
        LlamaConfig(
            vocab_size=1,  # embeddings are ours
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            max_position_embeddings=window,
            initializer_range=config.width**-0.5 / 2,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    del model.embed_tokens
    return model


# ---- how surprised a model is


def code_bits(model: LanguageModel, recordings: Sequence[Tensor], *, batch_size: int = 8) -> list[Tensor]:
    """Bits (K, N) float64 that each code of recordings (K, N) costs, given all that lies before it in the layout.

    Probabilities are over the codes that are valid at their place: when a recording ends is told, and costs nothing.
    What is longer than the model's window is read in windows that overlap by half.
    """
    order = sorted(range(len(recordings)), key=lambda index: -recordings[index].shape[-1])
    found: dict[int, Tensor] = {}
    for at in range(0, len(order), batch_size):
        chosen = order[at : at + batch_size]
        for index, bits in zip(chosen, _batch_bits(model, [recordings[i] for i in chosen]), strict=True):
            found[index] = bits
    return [found[index] for index in range(len(recordings))]


@torch.no_grad()
def _batch_bits(model: LanguageModel, recordings: Sequence[Tensor]) -> list[Tensor]:
    layout = model.space.layout
    sequences = [layout.to_tokens(codes) for codes in recordings]
    tokens = rows_of(layout.batch(sequences, begin=True).tokens, layout.stacked).to(model.device)  # (B, R, 1 + L)
    was_training = model.training
    model.eval()
    L = tokens.shape[-1]
    logits = torch.empty(len(recordings), model.num_rows, L, model.space.vocab_size)
    done = 0
    while done < L:  # each window adds half of it, the first one all
        start = max(0, done - model.window // 2)
        stop = min(start + model.window, L)
        logits[:, :, done:stop] = model(tokens[:, :, start:stop])[:, :, done - start :].cpu()
        done = stop
    model.train(was_training)
    found = []
    for item, codes in zip(logits, recordings, strict=True):
        K, N = codes.shape
        places = layout.positions(N)  # (K, N): the step before it, with begin, has the same number
        bits = torch.empty(K, N, dtype=torch.float64)
        for k in range(K):
            first, size = layout.code_offsets[k], layout.codebook_sizes[k]
            of_codes = item[k if layout.stacked else 0, places[k], first : first + size]  # (N, V)
            nats = F.cross_entropy(of_codes, codes[k], reduction="none")
            bits[k] = nats.double() / torch.log(torch.tensor(2.0, dtype=torch.float64))
        found.append(bits)
    return found


def rows_of(tokens: Tensor, stacked: bool) -> Tensor:
    """Tokens (B, R, L) of a batch, (B, L) if the layout is not stacked."""
    return tokens if stacked else tokens[:, None]


# ---- the folder


@dataclass(frozen=True)
class LMFolder:
    """What a model's folder holds: config.json, model.safetensors, space.json, card.md."""

    model: LanguageModel
    tokenizer: str  # name or folder, as the recipe had it
    about: dict[str, Any]


def save_lm(
    model: LanguageModel, folder: str | Path, *, tokenizer: str, about: dict[str, Any], card: str, half: bool = False
) -> None:
    """Write a model's folder; config.json comes last, so that a folder with one is whole. `half`: float16 weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_NAME).unlink(missing_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    state = {name: value.half() for name, value in state.items()} if half else state
    model.space.save(folder / SPACE_NAME)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer,
        "window": model.window,
        "model": to_dict(model.config),
        "about": about,
    }
    with write_aside(folder / WEIGHTS_NAME) as partial:
        partial.write_bytes(save(state))
    with write_aside(folder / CARD_NAME) as partial:
        partial.write_text(card, encoding="utf-8")
    with write_aside(folder / CONFIG_NAME) as partial:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def load_lm(folder: str | Path, *, device: str | torch.device = "cpu") -> LMFolder:
    """Read a model's folder, in evaluation mode. ValueError names what is missing or foreign."""
    folder, place = Path(folder), usable(device)
    try:
        document = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{folder}: no folder of a language model; {CONFIG_NAME}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG_NAME}: not valid JSON ({error})") from error
    kind = document.get("format") if isinstance(document, dict) else None
    if kind != FORMAT:
        raise ValueError(f"{folder / CONFIG_NAME}: its format is {kind!r}, and not {FORMAT!r}")
    if document.get("version") != VERSION:
        raise ValueError(
            f"{folder / CONFIG_NAME}: has version {document.get('version')!r}; this vqaudio reads {VERSION}"
        )
    space = TokenSpace.load(folder / SPACE_NAME)
    model = LanguageModel(from_dict(LMConfig, document["model"]), space, window=document["window"])
    try:
        state = load_file(folder / WEIGHTS_NAME)
        model.load_state_dict({name: value.float() for name, value in state.items()})
    except Exception as error:
        raise ValueError(f"{folder / WEIGHTS_NAME}: weights that do not fit {CONFIG_NAME}: {error}") from error
    return LMFolder(model.to(place).eval(), document["tokenizer"], document["about"])
