"""Small trees with the layout of each public corpus, good and bad files in them, and what should be listed of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

SECONDS = 0.6
RATE = 8000


@dataclass(frozen=True)
class Tree:
    """`files`: path -> text or bytes; None is a recording. `items`: path -> (split, speaker, text)."""

    folder: str  # of the corpus, below the root
    audio: tuple[str, ...]  # the folders where the corpus keeps audio, below `folder`
    files: dict[str, str | bytes | None]
    items: dict[str, tuple[str, str, str]]
    dropped: dict[str, str]  # path -> cause
    licence: str
    kind: str = "speech"

    def write(self, root: Path, *, real: bool = False) -> Path:
        """Write the tree below `root`; without `real`, recordings are a few bytes that nothing can decode."""
        for number, (name, content) in enumerate(self.files.items()):
            path = root / self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            elif real:
                noise = np.random.default_rng(number).uniform(-0.1, 0.1, round(SECONDS * RATE))
                soundfile.write(path, noise, RATE)
            else:
                path.write_bytes(b"not decoded")
        return root / self.folder


TREES = {
    "librispeech": Tree(
        folder="LibriSpeech",
        audio=("train-clean-100", "dev-clean", "test-other"),
        files={
            "SPEAKERS.TXT": ";ID |SEX|\n19 | F |\n",
            "train-clean-100/19/198/19-198-0000.flac": None,
            "train-clean-100/19/198/19-198-0001.flac": None,
            "train-clean-100/19/198/19-198-0002.flac": b"",
            "train-clean-100/19/198/19-198-0003.flac": None,
            "train-clean-100/19/198/19-199-0004.flac": None,
            "train-clean-100/19/198/19-198-0005.wav": None,
            "train-clean-100/19/198/19-198.trans.txt": (
                b"19-198-0000 NORTHANGER ABBEY\n"
                b"19-198-0001 THIS LITTLE WORK\r\n"
                b"19-198-0002 WAS FINISHED\n"
                b"19-198-0003\n"
                b"\n"
                b"19-198-0001 AGAIN\n"
                b"20-198-0001 ANOTHER SPEAKER\n"
                b"19-198-0009 NO SUCH FILE\n"
                b"19-198-0010 \xff\xfe\n"
            ),
            "train-clean-100/19/198/other.trans.txt": "19-198-0000 X\n",
            "train-clean-100/84/121/84-121-0000.flac": None,
            "train-clean-100/84/121/84-121.trans.txt": "84-121-0000 OF THE TEST SET\n",
            "train-clean-100/loose.flac": None,
            "dev-clean/53/7/53-7-0000.flac": None,
            "dev-clean/53/7/53-7.trans.txt": "53-7-0000 VALID\n",
            "test-other/84/122/84-122-0000.flac": None,
            "test-other/84/122/84-122.trans.txt": "84-122-0000 TEST",
        },
        items={
            "train-clean-100/19/198/19-198-0000.flac": ("train", "19", "NORTHANGER ABBEY"),
            "train-clean-100/19/198/19-198-0001.flac": ("train", "19", "THIS LITTLE WORK"),
            "dev-clean/53/7/53-7-0000.flac": ("valid", "53", "VALID"),
            "test-other/84/122/84-122-0000.flac": ("test", "84", "TEST"),
        },
        dropped={
            "train-clean-100/19/198/19-198-0002.flac": "empty",
            "train-clean-100/19/198/19-198-0003.flac": "no transcript",
            "train-clean-100/19/198/19-199-0004.flac": "name",
            "train-clean-100/19/198/19-198-0005.wav": "name",
            "train-clean-100/19/198/19-198.trans.txt:4": "malformed",
            "train-clean-100/19/198/19-198.trans.txt:6": "duplicate",
            "train-clean-100/19/198/19-198.trans.txt:7": "malformed",
            "train-clean-100/19/198/19-198.trans.txt:9": "malformed",
            "train-clean-100/19/198/19-198-0009.flac": "missing",
            "train-clean-100/19/198/other.trans.txt": "name",
            "train-clean-100/84/121/84-121-0000.flac": "speaker",
            "train-clean-100/loose.flac": "name",
        },
        licence="CC BY 4.0",
    ),
    "libritts": Tree(
        folder="LibriTTS_R",
        audio=("train-clean-360", "dev-other"),
        files={
            "train-clean-360/100/12/100_12_000001_000000.wav": None,
            "train-clean-360/100/12/100_12_000001_000000.normalized.txt": "One line.\nAnother.",
            "train-clean-360/100/12/100_12_000001_000000.original.txt": "1 line.",
            "train-clean-360/100/12/._100_12_000001_000000.wav": b"\0\5\26\7",
            "train-clean-360/100/12/100_12_000001_000001.wav": None,
            "train-clean-360/100/12/100_12_000001_000002.wav": None,
            "train-clean-360/100/12/100_12_000001_000002.normalized.txt": " \n",
            "train-clean-360/100/12/100_12_000002_000000.normalized.txt": "No audio.",
            "train-clean-360/100/12/100_13_000002_000000.normalized.txt": "Elsewhere.",
            "train-clean-360/100/12/100_12.trans.tsv": "100_12_000001_000000\tx\ty\n",
            "dev-other/116/3/116_3_000000_000000.wav": None,
            "dev-other/116/3/116_3_000000_000000.normalized.txt": "Valid.",
        },
        items={
            "train-clean-360/100/12/100_12_000001_000000.wav": ("train", "100", "One line. Another."),
            "dev-other/116/3/116_3_000000_000000.wav": ("valid", "116", "Valid."),
        },
        dropped={
            "train-clean-360/100/12/._100_12_000001_000000.wav": "name",
            "train-clean-360/100/12/100_12_000001_000001.wav": "no transcript",
            "train-clean-360/100/12/100_12_000001_000002.wav": "no transcript",
            "train-clean-360/100/12/100_12_000001_000002.normalized.txt": "malformed",
            "train-clean-360/100/12/100_12_000002_000000.wav": "missing",
            "train-clean-360/100/12/100_13_000002_000000.normalized.txt": "name",
        },
        licence="CC BY 4.0",
    ),
    "ljspeech": Tree(
        folder="LJSpeech-1.1",
        audio=("wavs",),
        files={
            "README": "public domain",
            "metadata.csv": (
                'LJ001-0001|Printing, in the "only" sense|Printing, in the only sense\n'
                "LJ001-0002|in being 1||\n"
                "LJ001-0003|two cells\n"
                "LJ001-0004|raw only|\n"
                "LJ049-0001|The question|The question\n"
                "LJ050-0001|Report|Report\n"
                "LJ050-0001|Report|again\n"
                "LJ050-0099|no|audio\n"
                "LJ001-0005|empty|empty\n"
            ),
            "wavs/LJ001-0001.wav": None,
            "wavs/LJ001-0002.wav": None,
            "wavs/LJ001-0003.wav": None,
            "wavs/LJ001-0004.wav": None,
            "wavs/LJ001-0005.wav": b"",
            "wavs/LJ049-0001.wav": None,
            "wavs/LJ050-0001.wav": None,
            "wavs/LJ1-1.wav": None,
            "wavs/more/LJ001-0006.wav": None,
        },
        items={
            "wavs/LJ001-0001.wav": ("train", "LJ", "Printing, in the only sense"),
            "wavs/LJ001-0004.wav": ("train", "LJ", "raw only"),
            "wavs/LJ049-0001.wav": ("valid", "LJ", "The question"),
            "wavs/LJ050-0001.wav": ("test", "LJ", "Report"),
        },
        dropped={
            "metadata.csv:2": "malformed",
            "metadata.csv:3": "malformed",
            "metadata.csv:7": "duplicate",
            "wavs/LJ001-0002.wav": "no transcript",
            "wavs/LJ001-0003.wav": "no transcript",
            "wavs/LJ001-0005.wav": "empty",
            "wavs/LJ050-0099.wav": "missing",
            "wavs/LJ1-1.wav": "name",
            "wavs/more/LJ001-0006.wav": "name",
        },
        licence="public domain",
    ),
    "vctk": Tree(
        folder="VCTK-Corpus-0.92",
        audio=("wav48_silence_trimmed",),
        files={
            "speaker-info.txt": "ID AGE\n",
            "wav48_silence_trimmed/log.txt": "",
            "wav48_silence_trimmed/p225/p225_001_mic1.flac": None,
            "wav48_silence_trimmed/p225/p225_001_mic2.flac": None,
            "wav48_silence_trimmed/p225/p225_002_mic1.flac": None,
            "wav48_silence_trimmed/p225/p225_003_mic1.flac": b"",
            "wav48_silence_trimmed/p225/p226_001_mic1.flac": None,
            "wav48_silence_trimmed/p280/p280_001_mic1.flac": None,
            "wav48_silence_trimmed/p315/p315_001_mic1.flac": None,
            "wav48_silence_trimmed/s5/s5_001_mic1.flac": None,
            "txt/p225/p225_001.txt": "Please call Stella.\n",
            "txt/p225/p225_003.txt": "Empty.\n",
            "txt/p225/p225_004.txt": "No audio.\n",
            "txt/p225/p225_005.txt": "",
            "txt/p225/p226_009.txt": "Elsewhere.\n",
            "txt/p280/p280_001.txt": "Please call Stella.\n",
            "txt/s5/s5_001.txt": "Please call Stella.\n",
        },
        items={  # the splits follow from the names, by `assign_splits`
            "wav48_silence_trimmed/p225/p225_001_mic1.flac": ("train", "p225", "Please call Stella."),
            "wav48_silence_trimmed/p280/p280_001_mic1.flac": ("test", "p280", "Please call Stella."),
            "wav48_silence_trimmed/p315/p315_001_mic1.flac": ("valid", "p315", ""),
            "wav48_silence_trimmed/s5/s5_001_mic1.flac": ("train", "s5", "Please call Stella."),
        },
        dropped={
            "wav48_silence_trimmed/p225/p225_001_mic2.flac": "not taken",
            "wav48_silence_trimmed/p225/p225_002_mic1.flac": "no transcript",
            "wav48_silence_trimmed/p225/p225_003_mic1.flac": "empty",
            "wav48_silence_trimmed/p225/p225_004_mic1.flac": "missing",
            "wav48_silence_trimmed/p225/p226_001_mic1.flac": "name",
            "txt/p225/p225_005.txt": "malformed",
            "txt/p225/p226_009.txt": "name",
        },
        licence="CC BY 4.0",
    ),
    "common-voice": Tree(
        folder="cv-corpus-17.0",
        audio=("de/clips", "en/clips"),
        files={
            "de/test.tsv": 'client_id\tpath\tsentence\tage\nzoe\td1.mp3\tEr sagte "ja\t\n',
            "de/clips/d1.mp3": None,
            "de/clips/d2.mp3": None,
            "en/train.tsv": (
                "client_id\tpath\tsentence\n"
                "ann\te1.mp3\tOne.\n"
                "ann\te1.mp3\tOne again.\n"
                "bob\te2.mp3\n"
                "\te3.mp3\tNobody.\n"
                "zoe\te4.mp3\tTested on in German.\n"
                "ann\tgone.mp3\tNo such clip.\n"
                "ann\te9.mp3\tEmpty.\n"
            ),
            "en/dev.tsv": "client_id\tpath\tsentence\ndan\te5.mp3\tValid.\n",
            "en/validated.tsv": (
                "client_id\tpath\tsentence\n"
                "ann\te1.mp3\tOne.\n"
                "dan\te5.mp3\tValid.\n"
                "dan\te6.mp3\tMore of the speaker of dev.\n"
                "eve\te7.mp3\tNew.\n"
                "eve\te8.mp3\t \n"
            ),
            "en/other.tsv": "client_id\tpath\tsentence\nfay\te10.mp3\tNot validated.\n",
            **{f"en/clips/e{number}.mp3": None for number in (1, 2, 3, 4, 5, 6, 7, 8, 10)},
            "en/clips/e9.mp3": b"",
            "en/clips/old/e1.mp3": None,
        },
        items={
            "de/clips/d1.mp3": ("test", "zoe", 'Er sagte "ja'),
            "en/clips/e1.mp3": ("train", "ann", "One."),
            "en/clips/e5.mp3": ("valid", "dan", "Valid."),
            "en/clips/e7.mp3": ("train", "eve", "New."),
        },
        dropped={
            "de/clips/d2.mp3": "not taken",
            "en/train.tsv:3": "duplicate",
            "en/train.tsv:4": "malformed",
            "en/train.tsv:5": "malformed",
            "en/clips/e2.mp3": "not taken",
            "en/clips/e3.mp3": "not taken",
            "en/clips/e4.mp3": "speaker",
            "en/clips/gone.mp3": "missing",
            "en/clips/e6.mp3": "speaker",
            "en/clips/e8.mp3": "no transcript",
            "en/clips/e9.mp3": "empty",
            "en/clips/e10.mp3": "not taken",
            "en/clips/old/e1.mp3": "name",
        },
        licence="CC0 1.0",
    ),
    "musdb18-hq": Tree(
        folder="musdb18hq",
        audio=("train", "test"),
        files={
            "train/A Classic Education - NightOwl/mixture.wav": None,
            "train/A Classic Education - NightOwl/vocals.wav": None,
            "train/A Classic Education - NightOwl/guitar.wav": None,
            "train/Meaxic - Take A Step/mixture.wav": None,
            "train/No Mixture/drums.wav": None,
            "train/Cut/mixture.wav": b"",
            "test/AM Contra - Heart Peripheral/mixture.wav": None,
            "test/loose.wav": None,
        },
        items={
            "train/A Classic Education - NightOwl/mixture.wav": ("train", "", ""),
            "train/Meaxic - Take A Step/mixture.wav": ("valid", "", ""),
            "test/AM Contra - Heart Peripheral/mixture.wav": ("test", "", ""),
        },
        dropped={
            "train/A Classic Education - NightOwl/vocals.wav": "not taken",
            "train/A Classic Education - NightOwl/guitar.wav": "name",
            "train/No Mixture/mixture.wav": "missing",
            "train/No Mixture/drums.wav": "not taken",
            "train/Cut/mixture.wav": "empty",
            "test/loose.wav": "name",
        },
        licence="MUSDB18-HQ (for education, no commercial use; some songs CC BY-NC-SA)",
        kind="music",
    ),
}
