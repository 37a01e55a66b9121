"""Public corpora: what they hold, and where they come from."""

from vqaudio.data.sources.corpora import (
    CORPORA as CORPORA,
    Corpus as Corpus,
)
from vqaudio.data.sources.tree import (
    Listing as Listing,
    SourceError as SourceError,
)
