"""Sequence models over codes: folders of them, datasets and batches. Nothing here needs more than torch."""

from vqaudio.lm.binary import export_binary as export_binary
from vqaudio.lm.collate import Collator as Collator, ItemBatch as ItemBatch
from vqaudio.lm.dataset import (
    ItemDataset as ItemDataset,
    PackedDataset as PackedDataset,
    WindowDataset as WindowDataset,
)
from vqaudio.lm.embeddings import embeddings_from_codebooks as embeddings_from_codebooks
from vqaudio.lm.folder import CodeFolder as CodeFolder, CodeItem as CodeItem
from vqaudio.lm.sampler import ResumableBatches as ResumableBatches
