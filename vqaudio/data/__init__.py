"""Training data: manifests, packs, crops."""

from vqaudio.data.crops import (
    Batch as Batch,
    CropSampler as CropSampler,
    prefetch as prefetch,
    validation_clips as validation_clips,
)
from vqaudio.data.manifest import (
    Dropped as Dropped,
    Item as Item,
    Manifest as Manifest,
    ManifestError as ManifestError,
    ScanResult as ScanResult,
    assign_splits as assign_splits,
    read_manifest as read_manifest,
    scan as scan,
    write_manifest as write_manifest,
)
from vqaudio.data.packed import (
    PackedAudio as PackedAudio,
    PackError as PackError,
)
from vqaudio.data.packing import (
    PackReport as PackReport,
    write_packs as write_packs,
)
from vqaudio.data.prepare import (
    PrepareReport as PrepareReport,
    prepare as prepare,
)
