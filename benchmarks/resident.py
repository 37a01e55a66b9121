"""Peak memory of this process, on Linux; as a script, that of one `vqaudio` command.

python benchmarks/resident.py THREADS encode ... prints JSON: the peak in MB above what `import torch` takes, the wall
seconds after that import, and the exit status. A file of its own, since it may import nothing but torch before the
level is taken.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

import torch


def level_kilobytes() -> int:
    """Resident now; from here on `peak_megabytes` starts again."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes("VmRSS")


def peak_megabytes(level: int) -> float:
    """The most that has been resident since `level_kilobytes`, above that level."""
    return round((_kilobytes("VmHWM") - level) / 1024, 1)


def _kilobytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def main() -> None:
    threads, *command = sys.argv[1:]
    torch.set_num_threads(int(threads))
    level, start = level_kilobytes(), time.perf_counter()
    from vqaudio.cli import main as vqaudio

    with contextlib.redirect_stdout(io.StringIO()):
        status = vqaudio(command)
    print(json.dumps({"peak_mb": peak_megabytes(level), "seconds": time.perf_counter() - start, "status": status}))


if __name__ == "__main__":
    main()
