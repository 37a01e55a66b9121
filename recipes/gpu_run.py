"""A training run on a machine that is lent for minutes: check, start, poll, stop, collect. docs/gpu.md tells the whole.

    python recipes/gpu_run.py check RECIPE --packs DIR [--device cuda] [--steps 30]
    python recipes/gpu_run.py start RECIPE --packs DIR --out RUN [--device cuda] [any other option of vqaudio train]
    python recipes/gpu_run.py poll RUN           exit status 0: done, 1: died, 3: running, 4: stopped
    python recipes/gpu_run.py stop RUN           waits for the checkpoint
    python recipes/gpu_run.py collect RUN DIR    what is new, in parts of at most 15 MB

`start` begins a run, or goes on with the one in RUN, in a session of its own, and returns at once. What it knows of the
process lies in RUN/background: process.json, output.txt and, once it has ended, exit_status.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import carry

ROOT = Path(__file__).resolve().parent.parent  # whose vqaudio is meant: nothing has to be installed but what it needs
FOLDER = Path(carry.OUTPUT_NAME).parent
State = Literal["done", "died", "running", "stopped"]
STATUS: dict[State, int] = {"done": 0, "died": 1, "running": 3, "stopped": 4}
BY_SIGNAL = ("130", "143")  # exit status of a run that a signal ended, once it had saved (vqaudio.training.stopping)
PACE_LINES = 5  # of the log, over which speed is averaged
MAX_DATA_SHARE = 0.05

# The shell outlives the run, to write its status down; `trap :` leaves SIGTERM to the run, which saves first.
WRAPPER = 'trap : TERM INT; "$@"; status=$?; echo $status > "$0.partial" && mv "$0.partial" "$0"'


# ---- the process


@dataclass(frozen=True)
class Process:
    pid: int  # of the shell, which leads a session and a group of its own
    born: str  # by the system's clock: tells it from a later process with the same number
    command: list[str]

    @property
    def alive(self) -> bool:
        return self.born == _born(self.pid)


def read_process(run: Path) -> Process | None:
    try:
        return Process(**json.loads((run / FOLDER / "process.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def state_of(run: Path) -> State | None:
    """None for a run that was never started here."""
    process = read_process(run)
    if process is None:
        return None
    if process.alive:
        return "running"
    try:
        status = (run / FOLDER / "exit_status").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "died"  # so suddenly that nobody could write it down
    return "done" if status == "0" else "stopped" if status in BY_SIGNAL else "died"


def _born(pid: int) -> str | None:
    """When a process began, None if there is none, or only its entry is left."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if stat.parent.parent.joinpath("self").exists():
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return None if fields[0] in "ZX" else fields[19]
        os.kill(pid, 0)  # a system without /proc: whether there is one is all that can be known
    except (OSError, IndexError):
        return None
    return "unknown"


# ---- check


def check(options: argparse.Namespace, overrides: list[str]) -> int:
    """The device, the packs, and a few steps of every stage: what a run will be, in under a minute on a GPU."""
    sys.path.insert(0, str(ROOT))
    # Here, because the other commands have to answer at once, and importing torch takes seconds.
    import torch

    from vqaudio.data import PackedAudio
    from vqaudio.training import load_recipe
    from vqaudio.training.rehearsal import rehearse, stages_of

    started = time.monotonic()
    recipe = load_recipe(options.recipe, _pairs(overrides))
    name = _device(options.device)
    print(f"device: {name}, torch {torch.__version__}")
    for split in ("train", "valid"):
        packed = PackedAudio(options.packs, split)
        packed.verify()
        print(f"packs, {split}: whole, {packed.seconds / 3600:.2f} hours at {packed.sample_rate} Hz")
    hours = 0.0
    for stage in stages_of(recipe):
        pace = rehearse(
            recipe,
            options.packs,
            stage=stage,
            steps=options.steps,
            unmeasured=max(1, options.steps // 3),
            device=options.device,
            init_from=options.init_from,
        )
        audio = recipe.data.batch_size * recipe.data.crop_seconds * pace.steps_per_second
        print(
            f"{stage}: {pace.steps_per_second:.2f} steps a second, {audio:.0f} seconds of audio a second; "
            f"waits for data {100 * pace.data_share:.1f} % of the time; a batch is made in "
            f"{1000 * pace.batch_seconds:.1f} ms, a step takes {1000 * pace.step_seconds:.1f} ms; loss {pace.loss:.3f}"
        )
        if max(pace.data_share, pace.batch_seconds * pace.steps_per_second - 1) > MAX_DATA_SHARE:
            print("! the run will wait for its data: copy the packs to a disk of this machine, or take larger batches")
        hours += recipe.stages.shares()[stage] * recipe.steps / pace.steps_per_second / 3600
    if options.device.startswith("cuda"):
        print(f"GPU memory at the most: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    print(f"the {recipe.steps:,} steps of the recipe: {hours:.1f} hours; checked in {time.monotonic() - started:.0f} s")
    return 0


def _device(device: str) -> str:
    import torch

    if not device.startswith("cuda"):
        return f"{device}, {torch.get_num_threads()} threads"
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA"
        raise ValueError(
            f"torch {torch.__version__} (built for {built}) sees no GPU: look at nvidia-smi and the driver"
        )
    properties = torch.cuda.get_device_properties(device)
    bfloat16 = "with" if torch.cuda.is_bf16_supported() else "without"
    memory = properties.total_memory / 1e9
    return f"{properties.name}, {memory:.0f} GB, {bfloat16} bfloat16, {torch.cuda.device_count()} of them"


def _pairs(words: list[str]) -> dict[str, str]:
    """--dotted.key value and --dotted.key=value, as `vqaudio train` takes them."""
    pairs, rest = {}, iter(words)
    for word in rest:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in key:
            raise ValueError(f"{word} is no option of check; settings of the recipe are --dotted.name value")
        pairs[key] = value if equals else next(rest, "")
    return pairs


# ---- start, poll, stop


def start(options: argparse.Namespace, further: list[str]) -> int:
    run: Path = options.out
    process = read_process(run)
    if process is not None and process.alive:
        print(f"{run}: runs already, as process {process.pid}: {shlex.join(process.command)}")
        return 0
    (run / FOLDER).mkdir(parents=True, exist_ok=True)
    status = (run / FOLDER / "exit_status").resolve()
    status.unlink(missing_ok=True)
    command = [sys.executable, "-m", "vqaudio.cli", "train", str(options.recipe), "--packs", str(options.packs)]
    command += ["--out", str(run), "--resume", "auto", "--device", options.device, *further]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with open(run / carry.OUTPUT_NAME, "ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        started = subprocess.Popen(
            ["sh", "-c", WRAPPER, str(status), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths)},
        )
    born = _born(started.pid) or "unknown"
    text = json.dumps({"pid": started.pid, "born": born, "command": command})
    carry.write_aside(run / FOLDER / "process.json", text.encode())
    print(f"{run}: started as process {started.pid}; its output goes to {run / carry.OUTPUT_NAME}")
    return 0


def poll(options: argparse.Namespace, further: list[str]) -> int:
    run: Path = options.run
    state = state_of(run)
    if state is None:
        raise ValueError(f"{run}: nothing was started here; gpu_run.py start begins a run")
    entries = read_entries(run)
    print(f"{run}: {state}{_progress(entries)}")
    for entry in entries[-options.lines :]:
        print(f"  {_short(entry)}")
    warnings = [entry for entry in entries if entry["kind"] in ("warning", "skipped")]
    if warnings:
        print(f"! {len(warnings)} warnings and skipped batches; the last: {_short(warnings[-1], whole=True)}")
    if state == "died" or not entries:
        print("\n".join(f"  | {line}" for line in _last_output(run, 12)))
    if state in ("died", "stopped"):
        whole = next(iter(carry.newest_checkpoint(run)), "").partition("/")[0]
        print(f"start goes on from {whole}" if whole else "there is no whole checkpoint: start begins anew")
    return STATUS[state]


def stop(options: argparse.Namespace, further: list[str]) -> int:
    """SIGTERM, and wait. The run saves after the step it is at; nothing is ever killed harder."""
    run: Path = options.run
    process = read_process(run)
    if process is not None and process.alive:
        os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + options.wait
        while process.alive and time.monotonic() < until:
            time.sleep(0.05)
        if process.alive:
            print(f"{run}: was asked to stop, and still runs after {options.wait:g} s; poll says when it has ended")
            return STATUS["running"]
    options.lines = 1
    return poll(options, further)


def read_entries(run: Path) -> list[dict[str, Any]]:
    """The lines of the log that are whole; none if it has not begun."""
    entries = []
    path = run / carry.LOG_NAME
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
            entries.append({"kind": entry["kind"], "step": entry["step"], **entry})
        except (ValueError, KeyError, TypeError):
            continue
    return entries


def _progress(entries: list[dict[str, Any]]) -> str:
    if not entries:
        return ", no line in its log yet"
    step = max(entry["step"] for entry in entries)
    total = next((entry["total_steps"] for entry in reversed(entries) if entry.get("total_steps")), None)
    text = f", step {step:,} of {total:,}" if total else f", step {step:,}"
    timed = [entry for entry in entries if "step_seconds" in entry][-PACE_LINES:]
    if not timed:
        return text
    waited = sum(entry["data_wait_seconds"] for entry in timed) / len(timed)
    seconds = sum(entry["step_seconds"] for entry in timed) / len(timed) + waited
    if seconds <= 0:
        return text
    left = f", {(total - step) * seconds / 60:.1f} minutes left" if total else ""
    return f"{text}, {1 / seconds:.2f} steps a second, {100 * waited / seconds:.1f} % of it waiting for data{left}"


def _short(entry: dict[str, Any], *, whole: bool = False) -> str:
    """A line of the log without its lists and tables, and without words unless `whole`."""
    kept = (str, int, float) if whole else (int, float)
    values = {key: value for key, value in entry.items() if isinstance(value, kept) and key not in ("kind", "step")}
    return " ".join([f"step {entry['step']} {entry['kind']}", *(f"{key}={value}" for key, value in values.items())])


def _last_output(run: Path, count: int) -> list[str]:
    try:
        return (run / carry.OUTPUT_NAME).read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


# ---- collect


def collect(options: argparse.Namespace, further: list[str]) -> int:
    """Weights, checkpoint and log, each in a folder of DIR that is called by its content; those there already stay."""
    run: Path = options.run
    for what in carry.WHAT:
        try:
            snapshot = carry.snapshot_of(run, what)
        except carry.CarryError as error:
            print(f"{what}: {error}")
            continue
        folder = options.folder / f"{what}-{snapshot.step:08d}-{carry.sha256(snapshot.stream())[:8]}"
        new = not (folder / carry.INDEX_NAME).exists()
        index = carry.write_pack(snapshot, folder, part_bytes=int(options.megabytes * carry.MEGABYTE))
        size = sum(part.bytes for part in index.parts) / carry.MEGABYTE
        print(f"{folder}: " + (f"{size:.1f} MB in {len(index.parts)} parts" if new else "nothing new"))
    return 0


# ---- the command line


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A training run on a machine that is lent for minutes.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(act=run)
        return added

    checking = command("check", check, "the device, the packs and a few steps, in under a minute")
    starting = command("start", start, "begin or go on, in the background; further options are those of vqaudio train")
    for each in (checking, starting):
        each.add_argument("recipe", type=Path, metavar="RECIPE")
        each.add_argument("--packs", type=Path, required=True, metavar="DIR")
        each.add_argument("--device", default="cuda", help="default: %(default)s")
    checking.add_argument("--steps", type=int, default=30, help="of each stage; default: %(default)s")
    checking.add_argument("--init-from", metavar="MODEL", help="as in vqaudio train")
    starting.add_argument("--out", type=Path, required=True, metavar="RUN")
    polling = command("poll", poll, "how it goes; exit status 0: done, 1: died, 3: running, 4: stopped")
    polling.add_argument("--lines", type=int, default=4, help="of the log; default: %(default)s")
    stopping = command("stop", stop, "ask it to save and end, and wait until it has; exit status as of poll")
    stopping.add_argument("--wait", type=float, default=120.0, metavar="SECONDS", help="default: %(default)s")
    collecting = command("collect", collect, "pack what is new since the last time into parts that can be carried")
    for each in (polling, stopping, collecting):
        each.add_argument("run", type=Path, metavar="RUN")
    collecting.add_argument("folder", type=Path, metavar="DIR")
    collecting.add_argument("--megabytes", type=float, default=15, help="of a part at most; default: %(default)s")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options, further = parser().parse_known_args(arguments)
    if further and options.act not in (check, start):
        parser().error(f"unrecognized arguments: {' '.join(further)}")
    try:
        status: int = options.act(options, further)
    except (ValueError, OSError) as error:
        print(f"gpu_run: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
