"""A codec can learn: given ten clips and nothing else, it comes to reproduce them at 10 dB and more from few codes."""

from pathlib import Path

import torch

from vqaudio import read_audio
from vqaudio.losses.reconstruction import si_sdr
from vqaudio.models import CodecConfig, SeanetDecoderConfig, SeanetEncoderConfig
from vqaudio.quantize import ResidualVQConfig
from vqaudio.training import Objective, Plan, Player, train_step
from vqaudio.training.recipe import LossConfig

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"
CLIP, STEPS = 2048, 120


def test_ten_clips_are_learned_by_heart_from_ten_bits_a_frame() -> None:
    audio, _ = read_audio(SAMPLES / "english-1.flac")
    pieces = torch.as_tensor(audio)[0].split(CLIP)[:-1]
    loudest = sorted(pieces, key=lambda piece: -float(piece.square().sum()))[:10]
    clips = torch.stack(loudest).unsqueeze(1)  # (10, 1, T)
    torch.manual_seed(0)
    codec = CodecConfig(
        encoder=SeanetEncoderConfig(
            strides=(8, 8), channels=(16, 64), units=(1, 0), blocks=1, look_ahead_frames=1, unit_kernel=3
        ),
        quantizer=ResidualVQConfig(dim=32, num_codebooks=2, codebook_size=32),
        decoder=SeanetDecoderConfig(
            strides=(8, 8), channels=(64, 16), units=(0, 1), blocks=1, look_ahead_frames=1, unit_kernel=3
        ),
    ).build()
    losses = LossConfig(
        mel_windows=(64, 256), num_mels=(10, 40), stft_windows=(128,), commitment=0.02, complex=1.0, waveform_l1=1.0
    )
    objective = Objective(losses, 16_000)
    player = Player(codec, torch.optim.AdamW(codec.parameters(), lr=3e-3, betas=(0.8, 0.99), fused=True), 1.0)

    @torch.no_grad()
    def score() -> float:
        return float(si_sdr(codec.decode(codec.encode(clips))[..., :CLIP], clips).mean())

    latents = codec.encode_latents(clips).detach().transpose(1, 2).flatten(0, 1)
    codec.quantizer.fit(latents, generator=torch.Generator().manual_seed(0))
    before = score()
    for step in range(STEPS):
        assert train_step(player, objective, clips, Plan(), generator=torch.Generator().manual_seed(step)).ok
    assert before < 9.0, before  # what k-means on latents that nothing has shaped gives
    assert score() >= 11.0
