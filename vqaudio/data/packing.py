"""Writing packs: decode, mix, resample and store recordings in the format that `vqaudio.data.packed` describes."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from vqaudio.data.manifest import Dropped, Item, Manifest, Progress, json_line, write_text
from vqaudio.data.packed import (
    FORMAT,
    FULL_SCALE,
    INDEX_NAME,
    VERSION,
    Clip,
    PackError,
    PackIndex,
    Part,
    existing_packs,
    sha256_of,
)
from vqaudio.dsp import Resampler, mix_down
from vqaudio.io import AudioError, inspect_audio, read_blocks

_SPOOL_BYTES = 64 * 2**20  # a resampled recording beyond this waits on disk for its peak to be known
_COPY_SAMPLES = 2**18


@dataclass(frozen=True)
class PackReport:
    index: PackIndex
    dropped: tuple[Dropped, ...]  # recordings that could not be read (any more) while packing
    written: bool  # False: the folder already held exactly this


def write_packs(
    manifest: Manifest,
    out: str | Path,
    *,
    sample_rate: int,
    max_part_bytes: int = 60_000_000,
    progress: Progress | None = None,
) -> PackReport:
    """Decode, mix to one channel, resample and pack every item of `manifest` into the folder `out`.

    Works by blocks in constant memory. Splits come in alphabetical order, items of a split in manifest order. An item
    without a split is an error, one that cannot be read is reported and left out. A folder that already holds the packs
    of the same inputs is left as it is. PackError if it holds others, or a part that differs from the one to be
    written: nothing is ever overwritten.
    """
    if sample_rate < 1 or max_part_bytes < 2:
        raise PackError(f"packs need a rate and a part size, got {sample_rate} Hz and {max_part_bytes} bytes")
    for item in manifest.items:
        if not item.split:
            raise PackError(f"{item.path}: has no split; use assign_splits")
    out = Path(out)
    inputs = inputs_fingerprint(manifest, sample_rate=sample_rate, max_part_bytes=max_part_bytes)
    existing = existing_packs(out, inputs)
    if existing is not None:
        return PackReport(existing, (), written=False)
    out.mkdir(parents=True, exist_ok=True)
    parts: list[Part] = []
    clips: list[Clip] = []
    dropped: list[Dropped] = []
    done = 0
    for split in sorted({item.split for item in manifest.items}):
        with _PartWriter(out, split, max_part_bytes // 2, parts) as writer:
            for number, item in enumerate(manifest.items):
                if item.split != split:
                    continue
                if progress is not None:
                    progress(done, len(manifest.items), f"packing {item.path}")
                done += 1
                with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(out)) as spool:
                    try:
                        num_samples, gain = _resample_into(spool, manifest.locate(item), sample_rate)
                    except (AudioError, OSError) as error:
                        dropped.append(Dropped(item.path, str(error), "unreadable"))
                        continue
                    spool.seek(0)
                    clips += _append(writer, spool, num_samples, gain, number, item)
            writer.finish()
    index = PackIndex(inputs, sample_rate, tuple(parts), tuple(clips))
    write_text(out / INDEX_NAME, json.dumps({"format": FORMAT, "version": VERSION, **asdict(index)}))
    if progress is not None:
        progress(done, len(manifest.items), "packed")
    return PackReport(index, tuple(dropped), written=True)


def inputs_fingerprint(manifest: Manifest, *, sample_rate: int, max_part_bytes: int = 60_000_000) -> str:
    """SHA-256 over everything the content of a pack follows from (the hashes of the files, not their place)."""
    digest = hashlib.sha256(json_line({"sample_rate": sample_rate, "max_part_bytes": max_part_bytes}).encode())
    for item in manifest.items:
        digest.update(json_line(asdict(item)).encode())
    return digest.hexdigest()


class _PartWriter:
    """Fills the parts of one split, one after the other, and lists them in `parts` as they are finished."""

    def __init__(self, folder: Path, split: str, max_samples: int, parts: list[Part]) -> None:
        self.folder = folder
        self.split = split
        self.max_samples = max_samples
        self.parts = parts
        self.used = 0  # samples in the open part
        self._count = 0
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._aside = folder / f".{split}.{os.getpid()}.tmp"

    def __enter__(self) -> "_PartWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
        self._aside.unlink(missing_ok=True)

    @property
    def number(self) -> int:
        """Index of the open part among all parts."""
        return len(self.parts)

    @property
    def room(self) -> int:
        """Samples that still fit the open part."""
        return self.max_samples - self.used

    def write(self, samples: NDArray[np.int16]) -> None:
        assert len(samples) <= self.room
        if self._file is None:
            self._file = self._aside.open("wb")
            self._digest = hashlib.sha256()
        data = samples.astype("<i2", copy=False).tobytes()
        self._file.write(data)
        self._digest.update(data)
        self.used += len(samples)

    def finish(self) -> None:
        """Close the open part and rename it into place; nothing happens if nothing was written."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        part = Part(
            file=f"{self.split}-{self._count:05d}.bin",
            split=self.split,
            num_bytes=2 * self.used,
            sha256=self._digest.hexdigest(),
        )
        place = self.folder / part.file
        # What an interrupted run of the same inputs left here is equal to what we have, and stays.
        if place.exists() and sha256_of(place) != part.sha256:
            raise PackError(f"{place}: is there already with other content; move it away or choose another folder")
        os.replace(self._aside, place)
        self.parts.append(part)
        self._count += 1
        self.used = 0


def _resample_into(spool: IO[bytes], path: Path, sample_rate: int) -> tuple[int, float]:
    """Write one file as mono float32 at `sample_rate` to `spool`; its length in samples, and the gain to fit int16."""
    resampler = Resampler(inspect_audio(path).sample_rate, sample_rate)
    num_samples, highest, lowest = 0, 0.0, 0.0

    def keep(samples: NDArray[np.float32]) -> None:
        nonlocal num_samples, highest, lowest
        if len(samples):
            num_samples += len(samples)
            highest = max(highest, float(samples.max()))
            lowest = min(lowest, float(samples.min()))
            spool.write(samples.tobytes())

    for block in read_blocks(path):  # (C, T)
        keep(resampler.push(mix_down(block))[0].numpy())
    keep(resampler.finish()[0].numpy())
    if num_samples == 0:
        raise AudioError(f"{path}: holds no samples")
    # int16 reaches from -1 to 32767/32768, so the two signs have their own bound.
    bound = (FULL_SCALE - 1) / FULL_SCALE
    gain = min(1.0, bound / highest if highest > bound else 1.0, -1.0 / lowest if lowest < -1.0 else 1.0)
    return num_samples, gain


def _append(
    writer: _PartWriter, spool: IO[bytes], num_samples: int, gain: float, number: int, item: Item
) -> list[Clip]:
    """Move one resampled recording from `spool` into the parts, as one clip or as pieces that fill parts."""
    if writer.used and num_samples > writer.room:
        writer.finish()
    clips = []
    start = 0
    while start < num_samples:
        if writer.room == 0:
            writer.finish()
        length = min(writer.room, num_samples - start)
        clip = Clip(
            part=writer.number,
            offset=writer.used,
            num_samples=length,
            start=start,
            file_samples=num_samples,
            gain=gain,
            item=number,
            path=item.path,
            speaker=item.speaker,
            licence=item.licence,
        )
        clips.append(clip)
        for done in range(0, length, _COPY_SAMPLES):
            samples = np.frombuffer(spool.read(4 * min(_COPY_SAMPLES, length - done)), dtype=np.float32)
            writer.write(np.rint(samples * np.float32(gain * FULL_SCALE)).astype(np.int16))
        start += length
    return clips
