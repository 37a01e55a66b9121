"""vqaudio plot: one file as a picture."""

from argparse import Namespace
from pathlib import Path

from vqaudio.cli.coding import CODES_EXTENSION, UsageError
from vqaudio.cli.reporting import say

FORMATS = (".png", ".svg")


def plot(options: Namespace) -> int:
    """An audio file, or a code file, as PNG or SVG."""
    # Here, because coding files must not load what draws.
    from vqaudio.codes import Codes
    from vqaudio.evaluation.plots import plot_audio, plot_codes
    from vqaudio.io import read_audio
    from vqaudio.tokenizer import AudioTokenizer

    source = Path(options.file)
    out = _target(source, options.out)
    tokenizer = None if options.model is None else AudioTokenizer.from_pretrained(options.model, device=options.device)
    if source.suffix == CODES_EXTENSION:
        plot_codes(Codes.load(source), out, title=source.name, tokenizer=tokenizer)
    else:
        audio, sample_rate = read_audio(source)
        plot_audio(audio, sample_rate, out, title=source.name, tokenizer=tokenizer)
    say(f"{source} -> {out}")
    return 0


def _target(source: Path, out: Path | None) -> Path:
    """A file as named, FILE.png in a folder, or beside the file."""
    if out is None:
        return source.with_suffix(FORMATS[0])
    if out.suffix.lower() in FORMATS and not out.is_dir():
        return out
    if out.suffix and not out.is_dir():
        raise UsageError(f"--out {out}: a folder, or a file that ends in {' or '.join(FORMATS)}, is wanted")
    out.mkdir(parents=True, exist_ok=True)
    return out / f"{source.stem}{FORMATS[0]}"
