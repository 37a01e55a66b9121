"""Any codec as a system, by the command that codes and decodes a file: programs that are not known here, one's own."""

import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vqaudio.evaluation.bounds import check_recording
from vqaudio.evaluation.programs import TIMEOUT_SECONDS, read_output, run_program, words_of
from vqaudio.evaluation.recordings import file_sha256
from vqaudio.evaluation.systems import Decoded, Point, Reconstruction
from vqaudio.io import write_audio


@dataclass(frozen=True)
class CommandCodec:
    """A codec by a command such as `python my_codec.py {in} {out}`, which encodes, decodes and ends.

        {in}      a 16-bit mono WAV file at the recording's own rate
        {out}     where it must leave what it decoded, as WAV or another form that libsndfile reads, at any rate
        {coded}   optional: where it must leave the coded form, whose size in bytes is `num_bits`

    The template is split into words as a shell does, but no shell runs it: no pipes, no variables. It is run in the
    folder that this process is in. Its time is not split into encoding and decoding, so neither is told.

    ValueError from `reconstruct`: a program that is not there, fails or hangs, no output, output that cannot be read or
    is more than a tenth (and more than 0.1 s) longer or shorter than the recording. Smaller differences are cut or
    filled with zeros at the end and noted among the problems; a delay is left in, since it cannot be told from here.
    """

    name: str  # in results and file names
    template: str
    timeout_seconds: float = field(default=TIMEOUT_SECONDS, kw_only=True)
    kind: Literal["codec"] = field(default="codec", init=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"a codec was named {self.name!r}; a name has letters, digits, dots and dashes")
        try:
            words = shlex.split(self.template)
        except ValueError as error:
            raise ValueError(
                f"{self.name}: the command cannot be split into words ({error}): {self.template}"
            ) from error
        for place in ("{in}", "{out}"):
            if not any(place in word for word in words):
                raise ValueError(
                    f"{self.name}: the command has no {place}, which a file is put in for: {self.template}"
                )

    @property
    def label(self) -> str:
        return self.name

    @property
    def points(self) -> tuple[Point, ...]:
        return (Point(name=self.name, label="as given"),)

    @property
    def program(self) -> str:
        return shlex.split(self.template)[0]

    def missing(self) -> str | None:
        if shutil.which(self.program) is None:
            return f"{self.program}, the program of {self.name}, is not on the path and no file that can be run"
        return None

    def about(self) -> dict[str, Any]:
        """With the hashes of the files that the command names: edited, it is another codec."""
        files = {word: file_sha256(Path(word)) for word in shlex.split(self.template) if Path(word).is_file()}
        return {"command": self.template, "program": shutil.which(self.program) or "not found", "files": files}

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        """Decoded at the rate of the file at {out}."""
        check_recording(audio)
        missing = self.missing()
        if missing is not None:
            raise ValueError(missing)
        with tempfile.TemporaryDirectory(prefix="vqaudio-") as folder:
            paths = {place: str(Path(folder) / name) for place, name in FILES.items()}
            write_audio(paths["in"], audio, sample_rate)
            run_program(words_of(self.template, paths), timeout_seconds=self.timeout_seconds)
            estimate, rate, problems = read_output(self.name, paths["out"], audio.shape[1], sample_rate)
            num_bits = None
            if "{coded}" in self.template:
                if not Path(paths["coded"]).is_file():
                    raise ValueError(f"{self.name} left no file at {{coded}}")
                num_bits = 8 * Path(paths["coded"]).stat().st_size
        decoded = Decoded(point=self.points[0], audio=estimate, sample_rate=rate, num_bits=num_bits, problems=problems)
        return Reconstruction(decoded=(decoded,))


FILES = {"in": "in.wav", "coded": "coded", "out": "out.wav"}
