"""The codec: lengths, what a frame may see, steps of a stream, and the training form against encode and decode."""

import copy
import dataclasses
from fractions import Fraction
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.fft import dct
from scipy.signal import decimate
from torch import Tensor

from tests.tiny import (
    CONFIGS,
    HOP,
    HYBRID_ENCODER,
    ISTFT_DECODER,
    KINDS,
    PLAIN_DECODER,
    PLAIN_ENCODER,
    RESIDUAL,
    SAMPLE_RATE,
    SEANET_DECODER,
    SEANET_ENCODER,
    noise,
    tiny_codec,
)
from vqaudio.metrics import si_sdr
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
from vqaudio.models.seanet import LEVEL_GAIN
from vqaudio.nn import LevelCompressor, Stream
from vqaudio.nn.companding import mu_law_decode
from vqaudio.nn.spectral import ForwardSTFT, InverseSTFT, LogBands, Polar
from vqaudio.quantize import VQConfig

every_kind = pytest.mark.parametrize("kind", KINDS)
few_examples = settings(max_examples=6)

# Each side in both kinds, with and without a look-ahead, and with an odd geometry.
SIDES = {
    "seanet": (SEANET_ENCODER, SEANET_DECODER),
    "plain": (PLAIN_ENCODER, PLAIN_DECODER),
    "seanet-no-look-ahead": (
        dataclasses.replace(SEANET_ENCODER, look_ahead_frames=0),
        dataclasses.replace(SEANET_DECODER, look_ahead_frames=0),
    ),
    "plain-look-ahead-3": (
        dataclasses.replace(PLAIN_ENCODER, look_ahead_frames=3),
        dataclasses.replace(PLAIN_DECODER, look_ahead_frames=3),
    ),
    "seanet-dilated": (
        SeanetEncoderConfig(strides=(2, 3), channels=(4, 6), units=(3, 1), unit_kernel=3, dilations=(1, 5), blocks=0),
        SeanetDecoderConfig(strides=(3, 2), channels=(6, 4), units=(1, 3), unit_kernel=3, dilations=(1, 5), blocks=0),
    ),
    "istft": (SEANET_ENCODER, ISTFT_DECODER),
    "istft-unit-look-ahead-0": (
        SEANET_ENCODER,
        dataclasses.replace(ISTFT_DECODER, phase="unit", look_ahead_frames=0),
    ),
    "hybrid": (HYBRID_ENCODER, ISTFT_DECODER),
    "hybrid-one-window-look-ahead-0": (
        HybridEncoderConfig(strides=(20, 1), overlap=3, num_mels=4, channels=8, blocks=0, look_ahead_frames=0),
        PLAIN_DECODER,
    ),
    "istft-one-spectrum": (
        SEANET_ENCODER,
        ISTFTDecoderConfig(strides=(1, 20), overlap=3, channels=6, blocks=0, phase="free"),
    ),
}
every_side = pytest.mark.parametrize("side", SIDES)


@lru_cache
def codec_of(side: str) -> Codec:
    """In float64, so that the smallest influence of one sample on another shows."""
    encoder, decoder = SIDES[side]
    quantizer = VQConfig(dim=4, codebook_size=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        codec = CodecConfig(sample_rate=800, encoder=encoder, quantizer=quantizer, decoder=decoder).build()
    return awake(codec).double().eval()


def awake(codec: Codec) -> Codec:
    """`codec` with noise on every parameter: some branches start at zero, and what they see would not show."""
    with torch.no_grad():
        for index, parameter in enumerate(codec.parameters()):
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return codec


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- lengths


@every_kind
@few_examples
@given(num_samples=st.integers(0, 3 * HOP), batch=st.integers(1, 3))
def test_frames_cover_the_samples(kind: str, num_samples: int, batch: int) -> None:
    codec = tiny_codec(kind)
    num_frames = (num_samples + HOP - 1) // HOP
    codes = codec.encode(noise(batch, num_samples)[:, None])
    assert codes.shape == (batch, len(codec.codebook_sizes), num_frames)
    assert codec.frames_for(num_samples) == num_frames
    audio = codec.decode(codes)
    assert audio.shape == (batch, 1, num_frames * HOP) and audio.isfinite().all()
    assert codec.samples_for(num_frames) == num_frames * HOP


@every_side
@pytest.mark.parametrize("num_samples", [0, 1])
def test_the_shortest_signals_pass_with_any_look_ahead(side: str, num_samples: int) -> None:
    codec = codec_of(side)
    latents = codec.encode_latents(random(1, 1, num_samples))
    assert latents.shape == (1, 4, num_samples)
    assert codec.decode_latents(latents).shape == (1, 1, num_samples * codec.hop_length)


@every_kind
@few_examples
@given(num_samples=st.integers(1, 3 * HOP))
def test_training_form_keeps_the_length(kind: str, num_samples: int) -> None:
    assert tiny_codec(kind)(noise(2, num_samples)[:, None]).audio.shape == (2, 1, num_samples)


def test_facts() -> None:
    codec = tiny_codec("rvq-projected")
    assert (codec.sample_rate, codec.hop_length, codec.frame_rate) == (SAMPLE_RATE, HOP, Fraction(80))
    assert codec.codebook_sizes == (32, 32, 32)
    assert tiny_codec("fsq").codebook_sizes == (12, 12)
    default = CodecConfig()
    assert (default.sample_rate, default.hop_length) == (16_000, 320)


# ---- what a frame sees


def influence(function: torch.nn.Module, x: Tensor, place: int) -> list[int]:
    """The places of the output that change with place `place` of x."""
    moved = x.clone()
    moved[..., place] += 1.0
    return (function(moved) != function(x)).any(dim=1)[0].nonzero().flatten().tolist()


@every_side
@few_examples
@given(data=st.data())
def test_latents_see_their_look_ahead_and_no_further(side: str, data: st.DataObject) -> None:
    codec = codec_of(side)
    hop, look_ahead = codec.hop_length, codec.encoder_delay_frames
    num_frames = codec.encoder_receptive_field_frames + 6
    x = random(1, 1, num_frames * hop)
    sample = data.draw(st.integers(0, x.shape[-1] - 1))
    frames = influence(codec.encode_latents, x, sample)  # type: ignore[arg-type]
    # frame n sees samples up to (n + 1 + L) · hop - 1, and R frames back from the step that makes it
    first = max(0, sample // hop - look_ahead)
    last = sample // hop - look_ahead + codec.encoder_receptive_field_frames
    assert all(first <= frame <= last for frame in frames)
    if "plain" not in side and frames:  # rectifiers may hide a sample
        assert frames[0] == first


@every_side
def test_last_sample_in_sight_is_seen(side: str) -> None:
    codec = codec_of(side)
    hop, look_ahead = codec.hop_length, codec.encoder_delay_frames
    x = random(1, 1, 12 * hop)
    seen = [influence(codec.encode_latents, x, sample) for sample in range(8 * hop, 9 * hop)]  # type: ignore[arg-type]
    assert any(8 - look_ahead in frames for frames in seen)
    assert not any(frame < 8 - look_ahead for frames in seen for frame in frames)


@every_side
@few_examples
@given(data=st.data())
def test_samples_see_the_decoders_look_ahead_and_no_further(side: str, data: st.DataObject) -> None:
    codec = codec_of(side)
    look_ahead = codec.decoder_delay_frames
    x = random(1, 4, codec.decoder_receptive_field_frames + 6)
    place = data.draw(st.integers(0, x.shape[-1] - 1))
    frames = {sample // codec.hop_length for sample in influence(codec.decode_latents, x, place)}  # type: ignore[arg-type]
    first, last = place - look_ahead, place - look_ahead + codec.decoder_receptive_field_frames
    assert all(first <= frame <= last for frame in frames)
    if "plain" not in side:
        assert min(frames) == max(0, first)


@every_side
def test_receptive_field_is_tight(side: str) -> None:
    """The first frame of the past that counts does count (for rectifiers, unless they happen to hide it)."""
    codec = codec_of(side)
    hop = codec.hop_length
    past = codec.encoder_receptive_field_frames
    step = past + 3  # the step of the encoder that is looked at, and its first frame of past
    x = random(1, 1, (step + 6) * hop)
    frame = step - codec.encoder_delay_frames
    inside = any(
        frame in influence(codec.encode_latents, x, sample)  # type: ignore[arg-type]
        for sample in range((step - past) * hop, (step - past + 1) * hop)
    )
    beyond = frame in influence(codec.encode_latents, x, (step - past) * hop - 1)  # type: ignore[arg-type]
    assert not beyond
    assert inside or "plain" in side

    past = codec.decoder_receptive_field_frames
    step = past + 3
    latents = random(1, 4, step + 6)
    frame = step - codec.decoder_delay_frames
    changed = [
        {sample // hop for sample in influence(codec.decode_latents, latents, step - past - more)}  # type: ignore[arg-type]
        for more in (0, 1)
    ]
    assert frame not in changed[1]
    assert frame in changed[0] or "plain" in side
    assert codec.receptive_field_frames == max(codec.encoder_receptive_field_frames, past)


def test_receptive_field_of_a_waveform_codec_by_hand() -> None:
    codec = CodecConfig(encoder=SeanetEncoderConfig(), decoder=SeanetDecoderConfig()).build()
    # convolutions of kernel 2s remember s; units 4 · dilation; blocks 6; the aligning one 3; in samples of their inputs
    encoder = 8 + 4 * 8 + 5 * 8 + 4 * 40 + 4 * 40 + 4 * 160 + 2 * 160 + 3 * 6 * 320 + 3 * 320
    assert codec.encoder_receptive_field_frames == -(-encoder // 320)
    # the aligning convolution remembers 3, transposed ones 1; units before each ×4, ×5, ×8
    decoder = 3 * 320 + 4 * 6 * 320 + 320 + 4 * 160 + 160 + (4 + 12) * 40 + 40 + 4 * 8 + 8
    assert codec.decoder_receptive_field_frames == -(-decoder // 320)


# ---- streams


@every_side
@few_examples
@given(steps=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_steps_of_a_stream_are_the_whole(side: str, steps: list[int]) -> None:
    codec = codec_of(side)
    hop, num_frames = codec.hop_length, sum(steps)
    audio, latents = random(1, 1, num_frames * hop), random(1, 4, num_frames)

    flush = torch.zeros(1, 1, codec.encoder_delay_frames * hop, dtype=torch.float64)
    stream: Stream = {}
    pieces = [*audio.split([step * hop for step in steps], dim=-1), flush]
    made = torch.cat([codec.encode_latents(piece, stream=stream) for piece in pieces], dim=-1)
    torch.testing.assert_close(made[..., codec.encoder_delay_frames :], codec.encode_latents(audio))

    flush = torch.zeros(1, 4, codec.decoder_delay_frames, dtype=torch.float64)
    stream = {}
    pieces = [*latents.split(steps, dim=-1), flush]
    made = torch.cat([codec.decode_latents(piece, stream=stream) for piece in pieces], dim=-1)
    torch.testing.assert_close(made[..., codec.decoder_delay_frames * hop :], codec.decode_latents(latents))


@every_kind
def test_a_stream_has_one_entry_for_each_layer_with_memory_and_does_not_grow(kind: str) -> None:
    codec, stream = tiny_codec(kind), Stream()
    sizes = []
    for seed in range(3):
        codes = codec.encode(noise(1, 4 * HOP, seed)[None], stream=stream)
        codec.decode(codes, stream=stream)
        sizes.append({key: tuple(value.shape) for key, value in stream.items()})
    assert sizes[0] == sizes[1] == sizes[2]
    assert {key.split(".")[0] for key in sizes[0]} == {"encoder", "decoder"}


@every_kind
def test_items_of_a_batch_do_not_meet(kind: str) -> None:
    codec, audio = copy.deepcopy(tiny_codec(kind)).double(), noise(3, 10 * HOP)[:, None].double()
    alone = torch.cat([codec.encode_latents(item) for item in audio.split(1)])
    torch.testing.assert_close(codec.encode_latents(audio), alone)
    torch.testing.assert_close(
        codec.decode_latents(alone), torch.cat([codec.decode_latents(item) for item in alone.split(1)])
    )


# ---- the start


def test_seanet_starts_as_a_block_transform_coder() -> None:
    """Before any training, low frequencies pass the unquantised chain at their level and without delay."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = CodecConfig(
            sample_rate=1_600,
            encoder=SeanetEncoderConfig(strides=(4, 5), channels=(8, 32), units=(1, 1), blocks=1),
            quantizer=VQConfig(dim=16, codebook_size=4),
            decoder=SeanetDecoderConfig(strides=(5, 4), channels=(32, 8), units=(1, 1), blocks=1),
        ).build()
    smooth = torch.nn.functional.avg_pool1d(noise(1, 3_200)[None], 8, stride=1)
    for audio in (smooth, 0.1 * smooth):
        error = codec(audio, quantize=False).audio - audio
        assert 10 * torch.log10(audio.square().sum() / error.square().sum()) > 10


@pytest.mark.parametrize("look_ahead", [0, 1, 2, 4])
@pytest.mark.parametrize("geometry", [{}, {"strides": (1, 20), "overlap": 4}, {"strides": (4, 5), "overlap": 2}])
def test_istft_starts_as_the_inverse_of_the_block_transform(look_ahead: int, geometry: dict[str, Any]) -> None:
    """Coefficients of cosines, each frame by itself -> the samples, as exactly as the windows' future is seen."""
    config = dataclasses.replace(ISTFT_DECODER, channels=80, look_ahead_frames=look_ahead, **geometry)
    codec = CodecConfig(
        sample_rate=SAMPLE_RATE, encoder=SEANET_ENCODER, quantizer=VQConfig(dim=HOP), decoder=config
    ).build()
    audio = noise(1, 40 * HOP)
    coefficients = torch.from_numpy(dct(audio.view(40, HOP).numpy(), norm="ortho", axis=1)).t()[None]  # (1, HOP, 40)
    estimate = codec.decode_latents(LevelCompressor()(LEVEL_GAIN * coefficients))
    inner = slice(4 * HOP, -4 * HOP)
    error = (estimate[0] - audio)[:, inner].square().mean() / audio[:, inner].square().mean()
    spectra, hop = config.strides
    reach = (hop * (spectra - 1 + config.overlap) - 1) // HOP
    assert error < (1e-5 if look_ahead >= reach else 1.0)  # what is not seen is taken for silence


@pytest.mark.parametrize(("look_ahead", "expected"), [((1, 1), 5.0), ((2, 2), 5.0), ((0, 1), 1.0)])
def test_hybrid_starts_with_the_spectrum_and_the_low_wave(
    look_ahead: tuple[int, int], expected: float, speech_clip: tuple[Tensor, int]
) -> None:
    """Before any training, the unquantised chain keeps the shape of the bands, and the wave below 1 kHz in its place.

    Their level it does not know yet: the decoder normalises what its logarithms are made from. An encoder that sees no
    future has the end of a frame under a window that fades there.
    """
    audio = speech_clip[0][None, :, :32_000]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = CodecConfig(
            encoder=HybridEncoderConfig(look_ahead_frames=look_ahead[0]),
            decoder=ISTFTDecoderConfig(phase="unit", look_ahead_frames=look_ahead[1]),
        ).build()
    estimate = codec(audio, quantize=False).audio.detach()
    low, low_estimate = (torch.from_numpy(decimate(x.numpy(), 8).copy()) for x in (audio, estimate))
    assert si_sdr(low_estimate, low) > expected
    difference = _thirds(estimate) - _thirds(audio)
    assert (difference - difference.mean()).abs().mean() < 1.3  # of a silent estimate: 1.41


def _thirds(audio: Tensor) -> Tensor:
    """Logarithms of the magnitudes of three bins each, 75 Hz wide."""
    bank = torch.eye(321).unflatten(0, (107, 3)).sum(dim=1)
    return LogBands(bank, low=1)(ForwardSTFT(hop=160, overlap=4)(audio))[:, :107]


def test_forward_transform_is_that_of_the_window_that_ends_with_its_hop() -> None:
    audio = noise(1, 200)
    spectra = ForwardSTFT(hop=10, overlap=4)(audio[None])
    expected = torch.stft(
        torch.cat([torch.zeros(1, 30), audio], dim=1),
        40,
        hop_length=10,
        window=torch.hann_window(40),
        center=False,
        return_complex=True,
    )
    torch.testing.assert_close(spectra, torch.cat([expected.real, expected.imag], dim=1), atol=1e-5, rtol=1e-5)


def test_log_bands_by_hand() -> None:
    spectrum = torch.tensor([3.0, 0.0, 1.0, 4.0, 2.0, 0.0]).view(1, 6, 1)  # 3 + 4i, 2i, 1: of moduli 5, 2, 1
    bank = torch.tensor([[2.0, 2.0, 0.0], [0.0, 0.0, 7.0]])  # rows count by their shares
    out = LogBands(bank, low=2)(spectrum).flatten()
    torch.testing.assert_close(out[:2], torch.tensor([3.501, 1.001]).log())
    level = (25 + 4) / 2
    torch.testing.assert_close(out[2:], torch.tensor([3.0, 0.0, 4.0, 2.0]) * (level + 1e-6) ** -0.375)


def test_istft_of_a_known_spectrum() -> None:
    """One spectrum alone is its windowed wave, from its own first sample on; by torch's inverse transform."""
    layer = InverseSTFT(spectra=2, hop=10, overlap=4)
    spectrum = torch.complex(*noise(2, 21, seed=3))
    spectrum.imag[[0, -1]] = 0.0
    frames = torch.zeros(1, 2, 2, 21, 4)  # (B, spectra, parts, F, N)
    frames[0, 1, :, :, 1] = torch.view_as_real(spectrum).t()
    audio = layer(frames.flatten(1, 3))[0, 0]
    window = torch.hann_window(40)
    expected = torch.zeros(80)
    expected[30:70] = torch.fft.irfft(spectrum) * window / 1.5  # four squares of Hann windows sum to 1.5
    torch.testing.assert_close(audio, expected, atol=1e-6, rtol=1e-5)


def test_polar_by_hand() -> None:
    logarithms = torch.tensor([0.5, 9.0]).view(1, 2, 1)
    z = torch.tensor([3.0, 0.0, 4.0, -0.5]).view(1, 4, 1)  # 3 + 4i, -0.5i
    free = Polar(spectra=1, bins=2, unit=False)(logarithms, z).flatten()
    torch.testing.assert_close(free, z.flatten() * torch.tensor([0.5, 5.5, 0.5, 5.5]).exp())
    unit = Polar(spectra=1, bins=2, unit=True)(logarithms, z).flatten()
    expected = torch.tensor([0.6, 0.0, 0.8, -1.0]) * torch.tensor([0.5, 5.5, 0.5, 5.5]).exp()
    torch.testing.assert_close(unit, expected, atol=1e-5, rtol=3e-4)  # a phase of next to nothing is shortened


def test_nothing_fixed_is_stored() -> None:
    assert not [name for name in tiny_codec("istft-simvq").state_dict() if "inverse" in name]


def test_classes_have_no_spectrum() -> None:
    with pytest.raises(ValueError, match="a decoder of kind 'istft' makes samples, not 256 channels of classes"):
        CodecConfig(encoder=SEANET_ENCODER, decoder=ISTFT_DECODER, output="mu_law").build()


# ---- the training form


@every_kind
@pytest.mark.parametrize("number", [None, 1])
def test_training_form_is_decode_of_encode(kind: str, number: int | None) -> None:
    codec, audio = tiny_codec(kind), noise(2, 6 * HOP - 3)[:, None]
    out = codec(audio, num_codebooks=number)
    codes = codec.encode(audio)
    assert torch.equal(out.codes, codes)
    expected = codec.decode(codes[:, :number])[..., : audio.shape[-1]]
    if codec.config.output == "mu_law":
        assert (out.audio != expected).double().mean() < 0.01  # near-ties between two classes may fall either way
    else:
        torch.testing.assert_close(out.audio, expected, atol=1e-4, rtol=1e-4)


@every_kind
def test_without_quantiser_latents_go_around_it(kind: str) -> None:
    codec, audio = copy.deepcopy(tiny_codec(kind)).train(), noise(2, 6 * HOP - 3)[:, None]
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    out = codec(audio, quantize=False)
    expected = codec.to_audio(codec.decode_latents(codec.encode_latents(audio)))[..., : audio.shape[-1]]
    torch.testing.assert_close(out.audio, expected)
    assert out.codes.shape == (2, len(codec.codebook_sizes), 6) and out.codes.sum() == 0
    assert out.losses == {} and out.stats == {} and out.revived == ()
    assert all(torch.equal(value, before[key]) for key, value in codec.state_dict().items())


@every_kind
def test_every_parameter_learns(kind: str) -> None:
    codec = awake(copy.deepcopy(tiny_codec(kind)).requires_grad_()).train()
    out = codec(noise(2, 20 * HOP)[:, None])
    signal = out.audio if out.logits is None else out.logits
    (signal.square().mean() + sum(loss.sum() for loss in out.losses.values())).backward()
    silent = [
        name for name, parameter in codec.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert silent == []


def test_mu_law_codec_says_the_likeliest_class() -> None:
    codec, audio = tiny_codec("vq-mu-law"), noise(2, 6 * HOP - 3)[:, None]
    out = codec(audio)
    assert out.logits is not None and out.logits.shape == (2, 256, audio.shape[-1])
    assert torch.equal(out.audio, mu_law_decode(out.logits.argmax(dim=1))[:, None])
    assert tiny_codec("fsq")(audio).logits is None
    values = mu_law_decode(torch.arange(256))
    assert torch.isin(codec.decode(out.codes), values).all()


# ---- no trace


@every_kind
@pytest.mark.parametrize("training", [False, True])
def test_encode_and_decode_change_nothing(kind: str, training: bool) -> None:
    codec = copy.deepcopy(tiny_codec(kind)).requires_grad_().train(training)
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    random_state = torch.random.get_rng_state()
    codes = codec.encode(noise(2, 90)[:, None])
    audio = codec.decode(codes)
    assert not audio.requires_grad
    assert torch.equal(codes, tiny_codec(kind).encode(noise(2, 90)[:, None]))
    assert torch.equal(audio, tiny_codec(kind).decode(codes))
    assert all(torch.equal(value, before[key]) for key, value in codec.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert codec.training == training


def test_silent_decoder_has_no_offset() -> None:
    """The last convolution has no bias: a decoder of nothing but its last layer keeps silence."""
    decoder = tiny_codec("rvq-projected").decoder
    last = [module for module in decoder.modules() if isinstance(module, torch.nn.Conv1d)][-1]
    assert last.bias is None


# ---- errors


def test_audio_of_a_wrong_shape_or_type_is_refused() -> None:
    codec = tiny_codec("fsq")
    for shape in [(100,), (1, 100), (1, 2, 100)]:
        with pytest.raises(ValueError, match=r"audio has shape \(.*\); expected \(batch, 1, samples\)"):
            codec.encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"audio has dtype torch\.int16; expected floating point in \[-1, 1\]"):
        codec.encode(torch.zeros(1, 1, 100, dtype=torch.int16))


def test_step_off_the_hop_is_refused_before_the_stream_is_touched() -> None:
    stream: Stream = {}
    with pytest.raises(ValueError, match="a stream step of 30 samples is not a multiple of the hop, 20"):
        tiny_codec("fsq").encode(torch.zeros(1, 1, 30), stream=stream)
    assert stream == {}


def test_sides_of_different_hops_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"encoder strides \(4, 5\) and decoder strides \(5, 2\) have different products"
    ):
        CodecConfig(encoder=SEANET_ENCODER, quantizer=RESIDUAL, decoder=PlainDecoderConfig(strides=(5, 2)))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (SeanetEncoderConfig, {"channels": (8, 16)}, "one entry per stage; got 4, 2 and 4 entries"),
        (SeanetDecoderConfig, {"strides": (2, 0, 5, 8)}, r"strides \(2, 0, 5, 8\) .* must be positive"),
        (SeanetEncoderConfig, {"look_ahead_frames": -1}, "look_ahead_frames -1 must not be negative"),
        (SeanetDecoderConfig, {"dilations": ()}, r"dilations \(\), .* must be positive"),
        (PlainEncoderConfig, {"strides": ()}, r"strides \(\) and channels 128 must be positive"),
        (PlainDecoderConfig, {"strides": (4, 0)}, r"strides \(4, 0\) and channels 128 must be positive"),
        (HybridEncoderConfig, {"num_mels": 0}, r"strides \(160, 2\), num_mels 0, .* must be positive"),
        (HybridEncoderConfig, {"blocks": -1}, "blocks -1 and look_ahead_frames 2 must not be negative"),
        (ISTFTDecoderConfig, {"strides": (0, 160)}, r"strides \(0, 160\), channels 384 .* must be positive"),
        (ISTFTDecoderConfig, {"overlap": 1}, "overlap is 1 hops of 160 samples; windows must overlap"),
        (ISTFTDecoderConfig, {"strides": (1, 5), "overlap": 3}, "be of an even number of samples"),
        (CodecConfig, {"sample_rate": 0}, "sample_rate is 0; it must be a positive number of Hz"),
    ],
)
def test_impossible_settings_are_refused(config: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_every_kind_of_part_is_tried_here() -> None:
    configs = CONFIGS.values()
    assert {config.encoder.kind for config in configs} == {"seanet", "plain", "hybrid"}
    assert {config.decoder.kind for config in configs} == {"seanet", "plain", "istft"}
    assert {config.quantizer.kind for config in configs} == {"vq", "residual_vq", "fsq"}
