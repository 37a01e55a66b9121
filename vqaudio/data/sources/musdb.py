"""MUSDB18-HQ (Rafii et al., 2019, doi 10.5281/zenodo.3338373): 150 songs, 44.1 kHz stereo, with their four stems.

    musdb18hq/train/Actions - One Minute Smile/mixture.wav    beside bass.wav, drums.wav, other.wav, vocals.wav
             /test/AM Contra - Heart Peripheral/mixture.wav

Mixtures are taken, stems are not: they would be the same sound once more.
"""

from pathlib import Path

from vqaudio.data.manifest import Dropped, Item, Manifest
from vqaudio.data.sources.tree import Listing, audio_files, empty_file, find_corpus, walk, wrong_name

# "For educational purposes only", no commercial use without the holders' permission; 48 of the songs are CC BY-NC-SA.
MUSDB_LICENCE = "MUSDB18-HQ (for education, no commercial use; some songs CC BY-NC-SA)"

# The customary validation songs, all among those for training: `validation_tracks` in musdb/configs/mus.yaml of the
# package musdb 0.4.3.
VALIDATION_SONGS = frozenset(
    {
        "Actions - One Minute Smile",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Johnny Lokke - Promises & Lies",
        "Patrick Talbot - A Reason To Leave",
        "Triviul - Angelsaint",
        "Alexander Ross - Goodbye Bolero",
        "Fergessen - Nos Palpitants",
        "Leaf - Summerghost",
        "Skelpolu - Human Mistakes",
        "Young Griffo - Pennies",
        "ANiMAL - Rockshow",
        "James May - On The Line",
        "Meaxic - Take A Step",
        "Traffic Experiment - Sirens",
    }
)

_MIXTURE = "mixture.wav"
_STEMS = ("bass.wav", "drums.wav", "other.wav", "vocals.wav")
_PARTS = ("train", "test")


def list_musdb(folder: Path) -> Listing:
    root = find_corpus(
        folder,
        title="MUSDB18-HQ",
        wanted=f"a folder train or test with a folder for each song, and {_MIXTURE} in it",
        is_corpus=lambda place: any(True for part in _PARTS for _ in (place / part).glob(f"*/{_MIXTURE}")),
    )
    items: list[Item] = []
    dropped: list[Dropped] = []
    for part in _PARTS:
        for place, files in walk(root, part, dropped) if (root / part).is_dir() else ():
            _, *below = place.split("/")  # of "train/SONG": the song
            if len(below) == 1 and _MIXTURE not in files:
                dropped.append(Dropped(f"{place}/{_MIXTURE}", "there is no such file", "missing"))
            for file in audio_files(files):
                path = f"{place}/{file}"
                if len(below) != 1 or file not in (_MIXTURE, *_STEMS):
                    dropped.append(wrong_name(path, f"SONG/{_MIXTURE} and the stems beside it"))
                elif file != _MIXTURE:
                    dropped.append(Dropped(path, "a stem; the mixture is taken", "not taken"))
                elif (fault := empty_file(root, path)) is not None:
                    dropped.append(fault)
                else:
                    split = "valid" if part == "train" and below[0] in VALIDATION_SONGS else part
                    items.append(Item(path=path, split=split, licence=MUSDB_LICENCE, kind="music"))
    return Listing(Manifest(root, tuple(items)), tuple(dropped))
