"""vqaudio info: what an audio file, a code file, a folder of these or a model is."""

from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vqaudio.checkpoint import CARD_NAME
from vqaudio.cli.coding import CODES_EXTENSION
from vqaudio.cli.reporting import in_one_sentence, note, say
from vqaudio.code_index import INDEX_NAME, read_index
from vqaudio.codes import Codes
from vqaudio.io import AudioError, inspect_audio
from vqaudio.shipped import find_model, model_of_tokens, shipped_models
from vqaudio.tokenizer import AudioTokenizer

Facts = Iterator[tuple[str, str]]


def info(options: Namespace) -> int:
    """Print the facts of each thing named; the exit status."""
    failed = False
    for number, name in enumerate(options.things):
        try:
            facts = list(_facts(name))
        except Exception as error:  # the others still have their turn
            note(in_one_sentence(error, name))
            failed = True
            continue
        if number:
            say("")
        say(name)
        for label, value in facts:
            say(f"  {label:18} {value}")
    return 1 if failed else 0


def _facts(name: str) -> Facts:
    path = Path(name)
    if name not in shipped_models() and (path / INDEX_NAME).is_file():
        return _folder_facts(path)
    if name in shipped_models() or path.is_dir():
        return _model_facts(name)
    if not path.exists():
        known = ", ".join(sorted(shipped_models())) or "none"
        raise AudioError(f"{name}: there is no such file or folder, and no such model ships with vqaudio ({known})")
    return _codes_facts(path) if path.suffix.lower() == CODES_EXTENSION else _audio_facts(path)


def _audio_facts(path: Path) -> Facts:
    audio = inspect_audio(path)
    yield "kind", f"audio file ({audio.format}, {audio.subtype})"
    yield "duration", f"{audio.seconds:.3f} s"
    yield "sample rate", f"{audio.sample_rate} Hz"
    yield "samples", str(audio.num_samples)
    yield "channels", str(audio.channels)


def _codes_facts(path: Path) -> Facts:
    codes = Codes.load(path)
    yield "kind", "code file"
    yield "duration", f"{codes.seconds:.3f} s"
    yield "channels", str(codes.channels)
    yield "codebooks", _sizes(codes.codebook_sizes)
    yield "frames", f"{codes.num_frames} at {float(codes.frame_rate):g} per second"
    yield "bit rate", f"{codes.bitrate / 1000:.3g} kbps for each channel"
    yield "model's audio", f"{codes.num_samples} samples at {codes.sample_rate} Hz"
    yield "source's audio", f"{codes.source_num_samples} samples at {codes.source_sample_rate} Hz"
    yield "token fingerprint", codes.token_fingerprint


def _folder_facts(folder: Path) -> Facts:
    entries = read_index(folder).values()
    yield "kind", "folder of code files"
    yield "recordings", f"{len(entries):,}, {sum(entry.seconds for entry in entries):,.1f} s"
    counts = Counter(entry.split or "without a split" for entry in entries)
    yield "splits", ", ".join(f"{split} {count:,}" for split, count in sorted(counts.items()))
    yield "codebooks", " and ".join(_sizes(sizes) for sizes in sorted({entry.codebook_sizes for entry in entries}))
    for fingerprint in sorted({entry.token_fingerprint for entry in entries}):
        yield "token fingerprint", f"{fingerprint}, of {model_of_tokens(fingerprint)}"


def _model_facts(name: str) -> Facts:
    folder = find_model(name)
    tokenizer = AudioTokenizer.from_pretrained(folder)
    codec = tokenizer.codec
    rates = [f"{rate / 1000:.3g}" for rate in tokenizer.bitrates().values()]
    ahead = [
        1000 * frames / tokenizer.frame_rate for frames in (codec.encoder_delay_frames, codec.decoder_delay_frames)
    ]
    sizes = [sum(p.numel() for p in part.parameters()) for part in (codec.encoder, codec.decoder, codec)]
    yield "kind", f"model {tokenizer.info.name}"
    yield "folder", str(folder)
    yield "sample rate", f"{tokenizer.sample_rate} Hz"
    yield "frames", f"{float(tokenizer.frame_rate):g} per second, {tokenizer.hop_length} samples each"
    yield "codebooks", _sizes(tokenizer.codebook_sizes)
    yield "bit rates", f"{', '.join(rates)} kbps with 1 to {tokenizer.num_codebooks} codebooks"
    yield "looks ahead", f"{float(ahead[0]):g} ms in the encoder, {float(ahead[1]):g} ms in the decoder"
    yield "parameters", f"{sizes[2]:,} (encoder {sizes[0]:,}, decoder {sizes[1]:,})"
    yield "token fingerprint", tokenizer.token_fingerprint
    yield "model fingerprint", tokenizer.info.model_fingerprint
    if tokenizer.card:
        yield "card", str(folder / CARD_NAME)


def _sizes(codebook_sizes: tuple[int, ...]) -> str:
    sizes = sorted(set(codebook_sizes))
    return f"{len(codebook_sizes)} of {' or '.join(f'{size:,}' for size in sizes)} codes"
