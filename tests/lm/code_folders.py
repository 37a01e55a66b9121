"""Folders of random codes, without audio or a model."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vqaudio.code_index import IndexEntry, code_file, write_index
from vqaudio.codes import Codes

HOP, RATE = 20, 1_600
OURS, ANOTHER = "a" * 64, "b" * 64  # fingerprints


def random_codes(sizes: Sequence[int], num_frames: int, *, channels: int = 1, fingerprint: str = OURS) -> Codes:
    generator = torch.Generator().manual_seed(num_frames)
    rows = [torch.randint(size, (channels, num_frames), generator=generator) for size in sizes]
    num_samples = max(0, num_frames * HOP - 7)  # the last frame is not whole
    return Codes(
        torch.stack(rows, dim=1),
        codebook_sizes=tuple(sizes),
        sample_rate=RATE,
        hop_length=HOP,
        num_samples=num_samples,
        source_sample_rate=RATE,
        source_num_samples=num_samples,
        token_fingerprint=fingerprint,
    )


def write_folder(
    folder: Path, recordings: Mapping[str, Codes], told: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Codes]:
    """Code files and their index; `told` are further fields of the entries."""
    entries = []
    for name, codes in recordings.items():
        path = code_file(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        codes.save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries.append(IndexEntry.of(name, codes, digest, **(told or {}).get(name, {})))
    write_index(folder, entries)
    return dict(recordings)


def write_random(folder: Path, sizes: Sequence[int], lengths: Sequence[int], *, channels: int = 1) -> dict[str, Codes]:
    """Recordings 00, 01, … of so many frames."""
    names = [f"{number:02}" for number in range(len(lengths))]
    return write_folder(
        folder,
        {name: random_codes(sizes, length, channels=channels) for name, length in zip(names, lengths, strict=True)},
    )
