"""The systems that speed.py measures: our models, and codecs of PyPI with random weights, each used as its README does.

    key          package                 what it is
    encodec      encodec                 24 kHz, causal; 8 codebooks, 6 kbps
    dac-16k      descript-audio-codec    conf/final/16khz.yml; 12 codebooks, 6 kbps
    dac-24k      descript-audio-codec    conf/final/24khz.yml; the first 8 of its 32 codebooks, 6 kbps
    snac-24k     snac                    config.json of snac_24khz; 3 codebooks at three rates, 1 kbps
    mimi         transformers            MimiConfig's own values; 8 codebooks, 1.1 kbps

Weights do not change what a codec costs, so none are downloaded. Codebooks that start as zeros are drawn at random, or
all codes would be 0. Every peer takes the whole recording in one pass, in inference mode. A package is imported where
its system is built: it is in no other system's process, and one that is missing costs its own rows only.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from vqaudio import AudioTokenizer, Codes


@dataclass(frozen=True)
class System:
    sample_rate: int
    parameters: int
    bitrate: float  # bits per second
    encode: Callable[[Tensor], Any]  # (T,) -> codes
    decode: Callable[[Any], Tensor]
    random_codes: Callable[[int], Any]  # of so many samples


@dataclass(frozen=True)
class Live:
    """A system that codes frame by frame. `encoder` and `decoder` each open a new stream."""

    sample_rate: int
    frame_samples: int
    encode_latency_seconds: float  # as `Session.latency_seconds`: one frame, and the frames looked ahead
    decode_latency_seconds: float
    encoder: Callable[[], Callable[[Tensor], Any]]  # takes one frame, (frame_samples,)
    decoder: Callable[[], Callable[[Any], Any]]  # takes one of `codes`
    codes: Callable[[Tensor], list[Any]]  # (T,) -> the codes of each frame


@dataclass(frozen=True)
class Peer:
    name: str
    package: str  # on PyPI
    build: Callable[[], System]
    live: Callable[[], Live] | None = None


def build(key: str) -> System:
    """A peer by its key, or one of our models by its name or folder."""
    return quietly(PEERS[key].build) if key in PEERS else our_system(key)


def build_live(key: str) -> Live | None:
    """The same, frame by frame; None for a peer that cannot."""
    if key not in PEERS:
        return our_live(key)
    live = PEERS[key].live
    return None if live is None else quietly(live)


def quietly(builder: Callable[[], Any]) -> Any:
    """The peers use much that is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return builder()


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ---- ours


def our_system(model: str) -> System:
    tokenizer = AudioTokenizer.from_pretrained(model)
    rate = tokenizer.sample_rate

    def random_codes(num_samples: int) -> Codes:
        frames = tokenizer.frames_for(num_samples)
        rows = [torch.randint(0, size, (frames,)) for size in tokenizer.codebook_sizes]
        return Codes(
            torch.stack(rows)[None],
            codebook_sizes=tokenizer.codebook_sizes,
            sample_rate=rate,
            hop_length=tokenizer.hop_length,
            num_samples=num_samples,
            source_sample_rate=rate,
            source_num_samples=num_samples,
            token_fingerprint=tokenizer.token_fingerprint,
        )

    return System(
        rate,
        count_parameters(tokenizer.codec),
        tokenizer.bitrates()[tokenizer.num_codebooks],
        lambda audio: tokenizer.encode(audio, rate),
        tokenizer.decode,
        random_codes,
    )


def our_live(model: str) -> Live:
    """Sessions that give a frame as soon as it can be told."""
    tokenizer = AudioTokenizer.from_pretrained(model)
    return Live(
        tokenizer.sample_rate,
        tokenizer.hop_length,
        tokenizer.session(block_frames=1).latency_seconds,
        tokenizer.decoding_session(block_frames=1).latency_seconds,
        encoder=lambda: tokenizer.session(block_frames=1).push,
        decoder=lambda: tokenizer.decoding_session(block_frames=1).push,
        codes=lambda audio: list(tokenizer.encode(audio).values.split(1, dim=-1)),  # (C, K, 1) each
    )


# ---- the peers


def encodec_system() -> System:
    model: Any = import_module("encodec").EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.set_target_bandwidth(6.0)
    for name, buffer in model.quantizer.named_buffers():
        if name.endswith(".embed"):  # zeros until training starts them by k-means
            buffer.normal_()

    @torch.inference_mode()
    def encode(audio: Tensor) -> Any:
        return model.encode(audio[None, None])

    @torch.inference_mode()
    def decode(frames: Any) -> Tensor:
        output: Tensor = model.decode(frames)
        return output

    def random_codes(num_samples: int) -> Any:
        return [(torch.randint(0, 1024, (1, 8, -(-num_samples // 320))), None)]

    return System(model.sample_rate, count_parameters(model), 6000.0, encode, decode, random_codes)


def dac_system(sample_rate: int) -> System:
    """Both rates share an architecture; codebooks are as many as make 6 kbps."""
    num_codebooks, hop = {16_000: 12, 24_000: 8}[sample_rate], 320
    model: Any = (
        import_module("dac")
        .DAC(
            encoder_rates=[2, 4, 5, 8],
            decoder_rates=[8, 5, 4, 2],
            n_codebooks={16_000: 12, 24_000: 32}[sample_rate],
            sample_rate=sample_rate,
        )
        .eval()
    )

    @torch.inference_mode()
    def encode(audio: Tensor) -> Any:
        return model.encode(model.preprocess(audio[None, None], sample_rate), num_codebooks)[1]

    @torch.inference_mode()
    def decode(codes: Any) -> Tensor:
        output: Tensor = model.decode(model.quantizer.from_codes(codes)[0])
        return output

    def random_codes(num_samples: int) -> Any:
        return torch.randint(0, 1024, (1, num_codebooks, -(-num_samples // hop)))

    bitrate = float(Fraction(sample_rate, hop) * num_codebooks * 10)
    return System(sample_rate, count_parameters(model), bitrate, encode, decode, random_codes)


def snac_system() -> System:
    strides, hop = [4, 2, 1], 512
    model: Any = (
        import_module("snac")
        .SNAC(
            sampling_rate=24_000,
            encoder_dim=48,
            encoder_rates=[2, 4, 8, 8],
            decoder_dim=1024,
            decoder_rates=[8, 8, 4, 2],
            attn_window_size=None,
            codebook_size=4096,
            codebook_dim=8,
            vq_strides=strides,
        )
        .eval()
    )

    @torch.inference_mode()
    def encode(audio: Tensor) -> Any:
        return model.encode(audio[None, None])

    @torch.inference_mode()
    def decode(codes: Any) -> Tensor:
        output: Tensor = model.decode(codes)
        return output

    def random_codes(num_samples: int) -> Any:
        slow_frames = -(-num_samples // (hop * strides[0]))
        return [torch.randint(0, 4096, (1, slow_frames * strides[0] // stride)) for stride in strides]

    bitrate = sum(24_000 / hop / stride for stride in strides) * 12
    return System(24_000, count_parameters(model), bitrate, encode, decode, random_codes)


def mimi_model() -> Any:
    transformers: Any = import_module("transformers")
    model = transformers.MimiModel(transformers.MimiConfig(num_quantizers=8)).eval()
    for name, buffer in model.quantizer.named_buffers():
        if name.endswith(".embed_sum"):  # zeros in a new model
            buffer.normal_()
    return model


def mimi_system() -> System:
    model = mimi_model()

    @torch.inference_mode()
    def encode(audio: Tensor) -> Any:
        return model.encode(audio[None, None]).audio_codes

    @torch.inference_mode()
    def decode(codes: Any) -> Tensor:
        output: Tensor = model.decode(codes).audio_values
        return output

    def random_codes(num_samples: int) -> Any:
        return torch.randint(0, 2048, (1, 8, -(-num_samples // 1920)))

    return System(24_000, count_parameters(model), 12.5 * 8 * 11, encode, decode, random_codes)


def mimi_live() -> Live:
    """Frame by frame with its caches.

    transformers caches the attention of the decoder, not the inputs of its convolutions: each frame's samples are
    computed as if silence came before. That is as much arithmetic as right ones take, and what it takes is measured.
    """
    model = mimi_model()
    dynamic_cache: Any = import_module("transformers").DynamicCache

    def encoder() -> Callable[[Tensor], Any]:
        caches: dict[str, Any] = {}

        @torch.inference_mode()
        def push(frame: Tensor) -> Any:
            output = model.encode(frame[None, None], use_streaming=True, **caches)
            caches.update(encoder_cache=output.encoder_cache, padding_cache=output.padding_cache)
            return output.audio_codes

        return push

    def decoder() -> Callable[[Any], Any]:
        cache = dynamic_cache(config=model.config)

        @torch.inference_mode()
        def push(codes: Any) -> Any:
            return model.decode(codes, decoder_cache=cache).audio_values

        return push

    @torch.inference_mode()
    def codes(audio: Tensor) -> list[Any]:
        return list(model.encode(audio[None, None]).audio_codes.split(1, dim=-1))  # (1, 8, 1) each

    frame, latency = model.config.frame_size, model.config.frame_size / 24_000  # causal, so one frame
    return Live(24_000, frame, latency, latency, encoder=encoder, decoder=decoder, codes=codes)


PEERS = {
    "encodec": Peer("EnCodec 24 kHz", "encodec", encodec_system),
    "dac-16k": Peer("DAC 16 kHz", "descript-audio-codec", lambda: dac_system(16_000)),
    "dac-24k": Peer("DAC 24 kHz", "descript-audio-codec", lambda: dac_system(24_000)),
    "snac-24k": Peer("SNAC 24 kHz", "snac", snac_system),
    "mimi": Peer("Mimi", "transformers", mimi_system, mimi_live),
}
