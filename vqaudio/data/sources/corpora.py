"""The public corpora by the names that `vqaudio prepare NAME ROOT` knows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vqaudio.data.download import Archive
from vqaudio.data.sources import archives
from vqaudio.data.sources.common_voice import COMMON_VOICE_LICENCE, list_common_voice
from vqaudio.data.sources.libri import LIBRI_LICENCE, list_librispeech, list_libritts
from vqaudio.data.sources.ljspeech import LJSPEECH_LICENCE, list_ljspeech
from vqaudio.data.sources.musdb import MUSDB_LICENCE, list_musdb
from vqaudio.data.sources.tree import Listing
from vqaudio.data.sources.vctk import VCTK_LICENCE, list_vctk

_LIBRI_DEFAULT = ("train-clean-100", "dev-clean", "test-clean")  # 7 GB of 61 (LibriSpeech), 10 of 84 (LibriTTS)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    title: str
    licence: str
    page: str  # where it is described, and got by hand
    lister: Callable[[Path], Listing]
    archives: tuple[Archive, ...] = ()  # none: it cannot be downloaded without an account there
    default_parts: tuple[str, ...] = ()  # what a download fetches unless told otherwise

    @property
    def parts(self) -> tuple[str, ...]:
        """What can be fetched and, where a corpus has several, packed by itself."""
        return tuple(archive.part for archive in self.archives)


CORPORA: dict[str, Corpus] = {
    "librispeech": Corpus(
        title="LibriSpeech",
        licence=LIBRI_LICENCE,
        page="https://www.openslr.org/12",
        lister=list_librispeech,
        archives=archives.LIBRISPEECH,
        default_parts=_LIBRI_DEFAULT,
    ),
    "libritts": Corpus(
        title="LibriTTS",
        licence=LIBRI_LICENCE,
        page="https://www.openslr.org/60",
        lister=list_libritts,
        archives=archives.LIBRITTS,
        default_parts=_LIBRI_DEFAULT,
    ),
    "ljspeech": Corpus(
        title="LJSpeech 1.1",
        licence=LJSPEECH_LICENCE,
        page="https://keithito.com/LJ-Speech-Dataset",
        lister=list_ljspeech,
        archives=(archives.LJSPEECH,),
        default_parts=(archives.LJSPEECH.part,),
    ),
    "vctk": Corpus(
        title="VCTK 0.92",
        licence=VCTK_LICENCE,
        page="https://datashare.ed.ac.uk/handle/10283/3443",
        lister=list_vctk,
        archives=(archives.VCTK,),
        default_parts=(archives.VCTK.part,),
    ),
    "common-voice": Corpus(
        title="Common Voice",
        licence=COMMON_VOICE_LICENCE,
        page="https://commonvoice.mozilla.org/datasets",
        lister=list_common_voice,
    ),
    "musdb18-hq": Corpus(
        title="MUSDB18-HQ",
        licence=MUSDB_LICENCE,
        page="https://zenodo.org/records/3338373",
        lister=list_musdb,
        archives=(archives.MUSDB18_HQ,),
        default_parts=(archives.MUSDB18_HQ.part,),
    ),
}
