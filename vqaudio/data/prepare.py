"""From a folder of recordings, a manifest or a corpus to a pack folder ready for training: scan, manifest, packs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vqaudio.data.manifest import (
    Dropped,
    Manifest,
    ManifestError,
    Progress,
    json_line,
    read_manifest,
    scan,
    write_manifest,
    write_text,
)
from vqaudio.data.packed import existing_packs
from vqaudio.data.packing import inputs_fingerprint, write_packs

MANIFEST_NAME = "manifest.jsonl"
DROPPED_NAME = "dropped.jsonl"


@dataclass(frozen=True)
class PrepareReport:
    out: Path
    clips: Mapping[str, int]  # split -> recordings packed
    seconds: Mapping[str, float]  # split -> their length at the packs' rate
    dropped: tuple[Dropped, ...]
    written: bool  # False: `out` held exactly these packs already

    @property
    def causes(self) -> dict[str, int]:
        """Cause -> number of recordings dropped for it, the most frequent first."""
        return dict(Counter(dropped.cause for dropped in self.dropped).most_common())


def prepare(
    source: str | Path | Manifest,
    out: str | Path,
    *,
    dropped: Sequence[Dropped] = (),
    sample_rate: int = 16000,
    kinds: Sequence[str] = (),
    exclude_licences: Sequence[str] = (),
    min_seconds: float = 0.5,
    min_sample_rate: int = 0,
    progress: Progress | None = None,
) -> PrepareReport:
    """Scan `source` (see `scan`), write `manifest.jsonl` and `dropped.jsonl` into `out`, and the packs beside them.

    `dropped` is what was left out of a manifest before it came here (see `vqaudio.data.sources`), and heads the list.
    A bad recording never ends the run; it is dropped and listed. ManifestError if nothing is left, with the counts.
    Run again with the same input it does nothing; PackError or ManifestError if `out` holds anything else: nothing but
    `dropped.jsonl`, the report of the last run, is ever replaced.
    """
    out = Path(out)
    place = source.root if isinstance(source, Manifest) else Path(source)
    if out.resolve() == (place if place.is_dir() else place.parent).resolve():
        raise ManifestError(f"{out}: packs belong in a folder of their own, not in that of their source")
    result = scan(
        source,
        min_seconds=min_seconds,
        min_sample_rate=min_sample_rate,
        kinds=kinds,
        exclude_licences=exclude_licences,
        progress=progress,
    )
    manifest = result.manifest
    existing = existing_packs(out, inputs_fingerprint(manifest, sample_rate=sample_rate))
    out.mkdir(parents=True, exist_ok=True)
    if existing is None and manifest.items:
        _write_manifest_once(manifest, out / MANIFEST_NAME)
    left_out = (*dropped, *result.dropped)
    _write_dropped(left_out, out)
    if not manifest.items:
        counts = Counter(entry.cause for entry in left_out)
        causes = ", ".join(f"{number} {cause}" for cause, number in counts.most_common())
        raise ManifestError(f"{place}: nothing is left to pack ({causes or 'it lists nothing'})")
    report = write_packs(manifest, out, sample_rate=sample_rate, progress=progress)
    if report.dropped:
        left_out += report.dropped
        _write_dropped(left_out, out)
    clips: Counter[str] = Counter()
    samples: Counter[str] = Counter()
    for clip in report.index.clips:
        split = report.index.parts[clip.part].split
        clips[split] += clip.has_file_start  # the pieces of a long recording count once
        samples[split] += clip.num_samples
    seconds = {split: number / sample_rate for split, number in samples.items()}
    return PrepareReport(out, dict(clips), seconds, left_out, report.written)


def _write_manifest_once(manifest: Manifest, path: Path) -> None:
    """Write the manifest where there is none; one that is there must say the same."""
    if not path.exists():
        write_manifest(manifest, path)
        return
    there = read_manifest(path)
    ours = [(manifest.locate(item).resolve(), item.hash, item.split) for item in manifest.items]
    if ours != [(there.locate(item).resolve(), item.hash, item.split) for item in there.items]:
        raise ManifestError(f"{path}: lists other recordings; move it away or choose another folder")


def _write_dropped(dropped: Sequence[Dropped], out: Path) -> None:
    write_text(out / DROPPED_NAME, "".join(json_line(asdict(entry)) for entry in dropped))
