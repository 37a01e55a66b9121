"""Audio to codes and back in a few lines: python samples/quickstart.py [OUTPUT_FOLDER]."""

import sys
from pathlib import Path

import torch

import vqaudio

clip = Path(__file__).parent / "english-1.flac"
output = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-output")
output.mkdir(parents=True, exist_ok=True)

tokenizer = vqaudio.AudioTokenizer.from_pretrained("speech-16k")  # ships with the package: no download
codes = tokenizer.encode(clip)  # any file, any rate; arrays and tensors work as well
print(f"{clip.name}: {codes.seconds:.2f} s -> codes {tuple(codes.values.shape)} (channels, codebooks, frames)")
print(f"{float(codes.frame_rate):g} frames per second, {codes.bitrate / 1000:.2f} kbit/s")

audio = tokenizer.decode(codes)  # (channels, samples) at the tokenizer's rate
vqaudio.write_audio(output / "all-codebooks.wav", audio, tokenizer.sample_rate)

coarse = codes.prefix(2)  # the first codebooks alone: fewer bits, the same speech, rougher
vqaudio.write_audio(output / "two-codebooks.wav", tokenizer.decode(coarse), tokenizer.sample_rate)
print(f"with 2 of {codes.num_codebooks} codebooks: {coarse.bitrate / 1000:.2f} kbit/s")

codes.save(output / "english-1.vqt")
again = vqaudio.Codes.load(output / "english-1.vqt")
assert again == codes
assert torch.equal(tokenizer.decode(again), audio)  # the same codes decode to the same samples
print(f"{(output / 'english-1.vqt').stat().st_size} bytes of codes; listen to the .wav files in {output}")
