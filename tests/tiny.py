"""Tiny codecs for tests, one for each kind of quantiser, encoder, decoder and output: hop 20 at 1,600 Hz."""

import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from vqaudio.checkpoint import save_codec
from vqaudio.models import (
    Codec,
    CodecConfig,
    HybridEncoderConfig,
    ISTFTDecoderConfig,
    PlainDecoderConfig,
    PlainEncoderConfig,
    SeanetDecoderConfig,
    SeanetEncoderConfig,
)
from vqaudio.quantize import FSQConfig, ResidualVQConfig, VQConfig
from vqaudio.tokenizer import AudioTokenizer

SAMPLE_RATE, HOP = 1_600, 20
SEANET_ENCODER = SeanetEncoderConfig(strides=(4, 5), channels=(8, 16), units=(1, 1), blocks=1)
SEANET_DECODER = SeanetDecoderConfig(strides=(5, 4), channels=(16, 8), units=(1, 1), blocks=1)
HYBRID_ENCODER = HybridEncoderConfig(strides=(10, 2), num_mels=6, channels=24, blocks=1)
ISTFT_DECODER = ISTFTDecoderConfig(strides=(2, 10), channels=32, blocks=1, phase="free")
PLAIN_ENCODER = PlainEncoderConfig(strides=(4, 5), channels=8)
PLAIN_DECODER = PlainDecoderConfig(strides=(5, 4), channels=8)
RESIDUAL = ResidualVQConfig(dim=16, num_codebooks=3, codebook_size=32, codebook_dim=4)

CONFIGS = {
    "rvq-projected": CodecConfig(
        sample_rate=SAMPLE_RATE, encoder=SEANET_ENCODER, quantizer=RESIDUAL, decoder=SEANET_DECODER
    ),
    "rvq-unprojected": CodecConfig(
        sample_rate=SAMPLE_RATE,
        encoder=SEANET_ENCODER,
        quantizer=ResidualVQConfig(dim=16, num_codebooks=3, codebook_size=32, codebook_dim=0, normalize=False),
        decoder=PLAIN_DECODER,
    ),
    "vq-mu-law": CodecConfig(
        sample_rate=SAMPLE_RATE,
        encoder=PLAIN_ENCODER,
        quantizer=VQConfig(dim=16, codebook_size=32),
        decoder=PLAIN_DECODER,
        output="mu_law",
    ),
    "fsq": CodecConfig(
        sample_rate=SAMPLE_RATE,
        encoder=PLAIN_ENCODER,
        quantizer=FSQConfig(dim=16, num_codebooks=2, levels=(4, 3)),
        decoder=SEANET_DECODER,
    ),
    "istft-simvq": CodecConfig(
        sample_rate=SAMPLE_RATE,
        encoder=SEANET_ENCODER,
        quantizer=replace(RESIDUAL, update="simvq", through="rotation"),
        decoder=ISTFT_DECODER,
    ),
    "hybrid": CodecConfig(
        sample_rate=SAMPLE_RATE,
        encoder=HYBRID_ENCODER,
        quantizer=RESIDUAL,
        # Of random weights the phases of kind "unit" are mostly of next to nothing, and rounding would choose them; a
        # model that ships has them, and keeps the laws.
        decoder=ISTFT_DECODER,
    ),
}
KINDS = tuple(CONFIGS)


@lru_cache
def tiny_codec(kind: str) -> Codec:
    """Random weights, and codebooks fitted to noise, so that codes vary from frame to frame."""
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        codec = CONFIGS[kind].build().eval()
    with torch.no_grad():
        for parameter in codec.parameters():  # residual branches start at zero, and would hide what they do
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
        latents = codec.encode_latents(0.3 * torch.randn(1, 1, 500 * HOP, generator=generator))
        codec.quantizer.fit(latents[0].t(), generator=generator)
    return codec


def save_tiny(kind: str, folder: Path) -> Path:
    """A tiny codec as a model folder."""
    save_codec(tiny_codec(kind), folder, name=f"tiny-{kind}", about={"recipe": "none"}, card="A model for tests.\n")
    return folder


@lru_cache
def tiny_tokenizer(kind: str) -> AudioTokenizer:
    with tempfile.TemporaryDirectory() as parent:
        return AudioTokenizer.from_pretrained(save_tiny(kind, Path(parent) / "model"))


def noise(channels: int, num_samples: int, seed: int = 0) -> torch.Tensor:
    """(C, T) of Gaussian noise at about -10 dBFS."""
    return 0.3 * torch.randn(channels, num_samples, generator=torch.Generator().manual_seed(seed))
