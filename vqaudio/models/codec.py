"""The codec: waveform -> encoder -> latents -> quantiser -> codes -> decoder -> waveform.

Encoder and decoder are causal; what they may see of the future is declared, not built in. A side with a look-ahead of
L frames is run L frames late and its first L outputs are dropped:

    frames of audio      0   1   2   3   4   (zeros)            look-ahead 2
    encoder step         0   1   2   3   4   5   6
    makes frame          –   –   0   1   2   3   4

Without a `stream`, `encode` and `decode` do this for a whole signal. With one, they make a step: T samples (a multiple
of the hop) give T / hop frames that belong `encoder_delay_frames` earlier; dropping and flushing is the caller's part.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.models.istft import ISTFTDecoderConfig
from vqaudio.models.seanet import SeanetDecoderConfig, SeanetEncoderConfig, history_samples
from vqaudio.models.spectral import HybridEncoderConfig
from vqaudio.models.vqvae import PlainDecoderConfig, PlainEncoderConfig
from vqaudio.nn import Stream, at_least_float32, name_streams
from vqaudio.nn.companding import NUM_CLASSES, mu_law_decode
from vqaudio.quantize import FSQConfig, Quantized, Reborn, ResidualVQConfig, VQConfig


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """The defaults are the architecture of `speech-16k`: what won at equal computing time (recipes/study)."""

    sample_rate: int = 16_000  # Hz
    encoder: HybridEncoderConfig | SeanetEncoderConfig | PlainEncoderConfig = field(default_factory=HybridEncoderConfig)
    # codes of full width that are reborn by splitting, which the study found best; a table of its own begins from the
    # defaults of its kind
    quantizer: ResidualVQConfig | VQConfig | FSQConfig = field(
        default_factory=lambda: ResidualVQConfig(revival="split")
    )
    decoder: ISTFTDecoderConfig | SeanetDecoderConfig | PlainDecoderConfig = field(default_factory=ISTFTDecoderConfig)
    output: Literal["waveform", "mu_law"] = "waveform"  # what the decoder emits: samples, or logits of 256 classes

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate is {self.sample_rate}; it must be a positive number of Hz")
        if prod(self.encoder.strides) != prod(self.decoder.strides):
            raise ValueError(
                f"encoder strides {self.encoder.strides} and decoder strides {self.decoder.strides} have different "
                "products; both are the hop length"
            )

    @property
    def hop_length(self) -> int:
        return prod(self.encoder.strides)

    def build(self) -> "Codec":
        return Codec(self)


@dataclass(frozen=True)
class CodecOutput:
    """The training form's result: audio (B, 1, T), codes (B, K, N), the quantiser's losses and stats, its revived
    rows, and for µ-law codecs the logits (B, 256, T), from which `audio` is the most likely waveform."""

    audio: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    revived: tuple[Reborn, ...]
    logits: Tensor | None = None


class Codec(nn.Module):
    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.sample_rate
        self.hop_length = config.hop_length
        self.encoder = config.encoder.build(dim=config.quantizer.dim)
        self.quantizer = config.quantizer.build()
        out_channels = NUM_CLASSES if config.output == "mu_law" else 1
        self.decoder = config.decoder.build(dim=config.quantizer.dim, out_channels=out_channels)
        name_streams(self)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    @property
    def frame_rate(self) -> Fraction:
        return Fraction(self.sample_rate, self.hop_length)

    @property
    def encoder_delay_frames(self) -> int:
        return self.encoder.look_ahead_frames

    @property
    def decoder_delay_frames(self) -> int:
        return self.decoder.look_ahead_frames

    @property
    def encoder_receptive_field_frames(self) -> int:
        """Frames of past that the state of the encoder depends on: warmed up so far, it has forgotten its start."""
        return -(-history_samples(self.encoder, samples_per_frame=1) // self.hop_length)

    @property
    def decoder_receptive_field_frames(self) -> int:
        return -(-history_samples(self.decoder, samples_per_frame=self.hop_length) // self.hop_length)

    @property
    def receptive_field_frames(self) -> int:
        """The larger of the two sides."""
        return max(self.encoder_receptive_field_frames, self.decoder_receptive_field_frames)

    def frames_for(self, num_samples: int) -> int:
        """N = ⌈T / hop⌉."""
        return -(-num_samples // self.hop_length)

    def samples_for(self, num_frames: int) -> int:
        """The most samples that N frames can stand for."""
        return num_frames * self.hop_length

    def encode_latents(self, audio: Tensor, *, stream: Stream | None = None) -> Tensor:
        """(B, 1, T) -> (B, D, N). A whole signal is padded with zeros to the hop; a stream step must be a multiple."""
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"audio has shape {tuple(audio.shape)}; expected (batch, 1, samples)")
        if not audio.is_floating_point():
            raise ValueError(f"audio has dtype {audio.dtype}; expected floating point in [-1, 1]")
        T = audio.shape[-1]
        if stream is not None:
            if T % self.hop_length:
                raise ValueError(f"a stream step of {T} samples is not a multiple of the hop, {self.hop_length}")
            return self.encoder(audio, stream)
        N, L = self.frames_for(T), self.encoder_delay_frames
        padded = F.pad(audio, (0, self.samples_for(N + L) - T))
        return self.encoder(padded)[..., L:]

    def decode_latents(self, latents: Tensor, *, stream: Stream | None = None) -> Tensor:
        """(B, D, N) -> (B, 1, N * hop), or logits (B, 256, N * hop) with µ-law output."""
        if stream is not None:
            return self.decoder(latents, stream)
        L = self.decoder_delay_frames
        return self.decoder(F.pad(latents, (0, L)))[..., self.samples_for(L) :]

    def to_audio(self, decoded: Tensor) -> Tensor:
        """What the decoder emits -> waveform (B, 1, T)."""
        if self.config.output == "mu_law":
            return mu_law_decode(decoded.argmax(dim=1, keepdim=True))
        return decoded

    @torch.no_grad()
    def encode(self, audio: Tensor, *, num_codebooks: int | None = None, stream: Stream | None = None) -> Tensor:
        """(B, 1, T) -> codes (B, K, N)."""
        return self.quantizer.encode(self.encode_latents(audio, stream=stream), num_codebooks=num_codebooks)

    @torch.no_grad()
    def decode(self, codes: Tensor, *, stream: Stream | None = None) -> Tensor:
        """Codes (B, k, N), any number of codebooks -> (B, 1, N * hop)."""
        return self.to_audio(self.decode_latents(self.quantizer.decode(codes), stream=stream))

    def forward(
        self,
        audio: Tensor,
        *,
        num_codebooks: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        quantize: bool = True,
    ) -> CodecOutput:
        """(B, 1, T) -> the same length through the codes (B, K, N); `quantize=False` goes around them (warm-up)."""
        latents = self.encode_latents(audio)
        with torch.autocast(audio.device.type, enabled=False):  # codes are chosen in float32, whatever is around them
            if quantize:
                quantized = self.quantizer(latents, num_codebooks=num_codebooks, generator=generator)
            else:
                quantized = _unquantized(latents, len(self.codebook_sizes))
        decoded = at_least_float32(self.decode_latents(quantized.latents)[..., : audio.shape[-1]])
        return CodecOutput(
            audio=self.to_audio(decoded),
            codes=quantized.codes,
            losses=quantized.losses,
            stats=quantized.stats,
            revived=quantized.revived,
            logits=decoded if self.config.output == "mu_law" else None,
        )


def _unquantized(latents: Tensor, num_codebooks: int) -> Quantized:
    B, _, N = latents.shape
    codes = torch.zeros(B, num_codebooks, N, dtype=torch.int64, device=latents.device)
    return Quantized(latents=latents, codes=codes, losses={}, stats={})
