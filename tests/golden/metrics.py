"""Make metrics.json: descript-audio-codec's own distances between recordings in samples/ and degradations of them.

It wants an environment of its own, as descript-audio-codec pins old packages:

    python -m venv DAC && DAC/bin/pip install descript-audio-codec==1.0.0 torch==2.11.0 torchaudio==2.11.0
    DAC/bin/python tests/golden/metrics.py
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "metrics.json"
SAMPLES = HERE.parent.parent / "samples"
CLIPS = ("english-1.flac", "english-2.flac", "english-mandarin-accent.flac")  # lossless: every decoder reads the same
DEGRADATIONS = ("noise", "low_pass", "8_bit", "quiet", "shift")
SECONDS = 2.0  # of each clip, from its first second on

# conf/base.yml of descript-audio-codec
MEL = {
    "n_mels": [5, 10, 20, 40, 80, 160, 320],
    "window_lengths": [32, 64, 128, 256, 512, 1024, 2048],
    "mel_fmin": [0] * 7,
    "mel_fmax": [None] * 7,
    "pow": 1.0,
    "clamp_eps": 1e-5,
    "mag_weight": 0.0,
}
STFT = {"window_lengths": [2048, 512]}


def read_clip(name: str) -> tuple[np.ndarray, int]:
    """(T,) float32 and its sample rate in Hz."""
    samples, sample_rate = soundfile.read(SAMPLES / name, dtype="float32")
    return samples[sample_rate : sample_rate + round(SECONDS * sample_rate)], sample_rate


def degrade(audio: np.ndarray, how: str) -> np.ndarray:
    """(T,) float32 -> the same length; every recipe is exact on every machine, or next to it."""
    if how == "noise":  # -46 dBFS, from a generator whose bits are fixed
        noise = np.random.default_rng(0).integers(-32768, 32768, len(audio)) / 32768
        worse = audio + 0.005 * np.sqrt(3) * noise
    elif how == "low_pass":  # a moving average of 9 samples
        worse = np.convolve(audio.astype(np.float64), np.full(9, 1 / 9), mode="same")
    elif how == "8_bit":
        worse = np.round(audio * 128) / 128
    elif how == "quiet":  # -12 dB
        worse = audio / 4
    else:
        worse = np.roll(audio, 1)
    return worse.astype(np.float32)


def main() -> None:
    import torch
    from audiotools import AudioSignal
    from dac.nn.loss import MelSpectrogramLoss, MultiScaleSTFTLoss, SISDRLoss

    mel, stft, si_sdr = MelSpectrogramLoss(**MEL), MultiScaleSTFTLoss(**STFT), SISDRLoss()
    rows = []
    for clip in CLIPS:
        audio, sample_rate = read_clip(clip)
        for how in DEGRADATIONS:
            worse = degrade(audio, how)
            estimate, reference = (AudioSignal(torch.tensor(each)[None, None], sample_rate) for each in (worse, audio))
            ratio = -si_sdr(reference, estimate).item()  # its arguments are the other way round
            rows.append(
                {
                    "clip": clip,
                    "degradation": how,
                    "mel_distance": mel(estimate, reference).item(),
                    "stft_distance": stft(estimate, reference).item(),
                    "si_sdr": ratio if math.isfinite(ratio) else None,
                }
            )
    packages = ("descript-audio-codec", "descript-audiotools", "torch", "librosa", "numpy", "scipy", "soundfile")
    head = {"versions": {name: version(name) for name in packages}, "mel": MEL, "stft": STFT}
    lines = [json.dumps(name) + ": " + json.dumps(value) for name, value in head.items()]
    lines.append('"rows": [\n  ' + ",\n  ".join(json.dumps(row, allow_nan=False) for row in rows) + "\n ]")
    GOLDEN.write_text("{\n " + ",\n ".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
