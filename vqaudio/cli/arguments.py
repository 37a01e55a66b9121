"""What can be typed, and the exit status: 0 all done, 1 something failed, 2 a wrong command line, 130 interrupted."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vqaudio import __version__
from vqaudio.cli.coding import UsageError, decode, encode, reconstruct
from vqaudio.cli.corpora import NAMES
from vqaudio.cli.doctor import doctor
from vqaudio.cli.evaluation import compare, evaluate, score
from vqaudio.cli.info import info
from vqaudio.cli.interrupts import interruptible
from vqaudio.cli.lm import lm_evaluate, lm_sample, lm_train
from vqaudio.cli.plotting import plot
from vqaudio.cli.reporting import in_one_sentence, note
from vqaudio.cli.runs import report
from vqaudio.cli.streaming import decode_stream, encode_stream
from vqaudio.cli.tokens import ALL_NAME, FORMATS as TOKEN_FORMATS, LAYOUTS
from vqaudio.cli.training import prepare, train
from vqaudio.cli.values import count, folder, number, part_of, rate, seconds, thinning
from vqaudio.pcm import ENCODINGS

FILES_HELP = "files, folders (searched with all below them) or quoted patterns such as 'corpus/**/*.flac'"
FORMATS = ("wav", "flac", "ogg", "opus", "mp3")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return its exit status; a wrong one raises SystemExit(2)."""
    parser = _parser()
    words, overrides = _split_overrides(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    if overrides and options.run not in (train, lm_train):
        parser.error(f"unrecognized arguments: --{next(iter(overrides))}")
    options.overrides = overrides
    try:
        with interruptible():
            status: int = (_streaming(options) or options.run)(options)
        return status
    except UsageError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        note("vqaudio: interrupted")
        return 130
    except BrokenPipeError:  # whoever read our output, such as `head`, has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        return 1
    except (ValueError, OSError) as error:
        note(f"vqaudio: {in_one_sentence(error)}")
        return 1


def _streaming(options: argparse.Namespace) -> Callable[[argparse.Namespace], int] | None:
    """What does a command between pipes, if that is asked for; without, files and --out are."""
    if options.run not in (encode, decode):
        return None
    if options.stream:
        if options.run is encode and options.layout is not None:
            raise UsageError("--layout writes files: leave out --stream")
        return encode_stream if options.run is encode else decode_stream
    listed = options.run is encode and options.manifest is not None
    if not (options.files or listed) or options.out is None:
        raise UsageError("files and --out are wanted, or --stream")
    return None


def _split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take `--dotted.key value` and `--dotted.key=value` out: argparse would take the value for a positional."""
    words, overrides = [], {}
    rest = iter(arguments)
    for word in rest:
        if word == "--":  # files from here on, whatever they are called
            words += [word, *rest]
            break
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and "." in key:
            overrides[key] = value if equals else next(rest, "")
        else:
            words.append(word)
    return words, overrides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vqaudio", description="Audio to discrete codes and back.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"vqaudio {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_coding(commands)
    _add_info(commands)
    _add_training(commands)
    _add_runs(commands)
    _add_evaluation(commands)
    _add_lm(commands)
    return parser


def _add_coding(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    described = {
        "encode": (encode, "audio files -> code files (.vqt), or token files (--layout)"),
        "decode": (decode, "code files, or token files -> audio files"),
        "reconstruct": (reconstruct, "audio files -> code files and what they decode to, with figures for each"),
    }
    for name, (run, text) in described.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run, stream=False)
        streams = name != "reconstruct"
        command.add_argument("files", nargs="*" if streams else "+", metavar="FILES", help=FILES_HELP)
        command.add_argument("--out", type=folder, required=not streams, metavar="DIR", help="folder for the results")
        command.add_argument(
            "--model", default="speech-16k", metavar="NAME_OR_FOLDER", help="default: %(default)s, which ships along"
        )
        amount = command.add_mutually_exclusive_group()
        amount.add_argument("--codebooks", type=int, metavar="K", help="use the first K codebooks; default: all")
        amount.add_argument(
            "--kbps", type=float, metavar="R", help="as many codebooks as fit R kbit/s for each channel"
        )
        command.add_argument("--device", default="cpu", help="such as cuda or cuda:1; default: %(default)s")
        command.add_argument(
            "--workers", type=count, metavar="N", help="threads that share the work; default: as many as torch uses"
        )
        command.add_argument("--start", type=seconds, metavar="S", help="begin S seconds in; default: at the start")
        command.add_argument("--end", type=seconds, metavar="S", help="end S seconds in; default: at the end")
        if name != "decode":
            command.add_argument(
                "--channels", choices=("mix", "keep"), default="mix", help="mix them into one (default), or keep each"
            )
        if name != "encode":
            command.add_argument(
                "--sample-rate",
                type=rate,
                metavar="source|model|HZ",
                help="of the decoded audio; default: model",
            )
            command.add_argument("--format", choices=FORMATS, help=f"of the audio files; default: {FORMATS[0]}")
        if name == "encode":
            _add_folders(command)
            _add_tokens(command)
        if streams:
            _add_streaming(command, name)


def _add_folders(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "folders",
        "code files that are there, whole, of the same sources, options and model are not made again; index.jsonl says "
        "what is there",
    )
    group.add_argument("--overwrite", action="store_true", help="make all of them again")
    group.add_argument(
        "--manifest",
        type=Path,
        metavar="MANIFEST",
        help="instead of FILES: a .jsonl or .tsv; split, speaker, text and licence of its recordings go into the index",
    )
    group.add_argument("--split", metavar="NAME", help="only this split of the manifest, such as train; default: all")


def _add_tokens(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "token files",
        "ids in the order in which a language model reads them, with a space.json that says what they are",
    )
    group.add_argument("--layout", choices=LAYOUTS, help="write tokens in this order; docs/sequence_models.md")
    group.add_argument(
        "--format",
        choices=TOKEN_FORMATS,
        help=f"jsonl (default): one {ALL_NAME} for all, with lengths; npy, txt: a file for each, without",
    )
    group.add_argument(
        "--first-id", type=int, default=0, metavar="V", help="ids begin at V, behind a text vocabulary of V; default: 0"
    )
    group.add_argument("--no-offsets", action="store_true", help="flat: the same ids for the codes of all codebooks")
    group.add_argument("--begin-end", action="store_true", help="add the begin and end ids to each sequence")


def _add_streaming(command: argparse.ArgumentParser, name: str) -> None:
    group = command.add_argument_group("pipes", "arecord | vqaudio encode --stream | vqaudio decode --stream | aplay")
    group.add_argument("--stream", action="store_true", help="from standard input to standard output, as it comes")
    group.add_argument(
        "--block-frames",
        type=count,
        metavar="N",
        help="come out every N frames, 1 for the least delay; default: blocks, and so codes, as those of files",
    )
    group.add_argument(
        "--pcm",
        choices=("auto", "wav", *ENCODINGS),
        default="auto",
        help="samples behind a WAV header, or bare; auto: WAV, or bare s16le if no header comes"
        if name == "encode"
        else "samples behind a WAV header (auto, wav), or bare",
    )
    if name == "encode":
        group.add_argument("--input-rate", type=count, metavar="HZ", help="of bare samples; default: the model's")
        group.add_argument("--input-channels", type=count, metavar="C", help="of bare samples; default: 1")


def _add_evaluation(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "score models on recordings, with other codecs beside them; docs/evaluation.md has the rules"
    command = commands.add_parser("evaluate", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=evaluate)
    command.add_argument("things", nargs="+", metavar="MODEL… DATA", help="models, then a manifest or a folder")
    command.add_argument(
        "--codec",
        action="append",
        default=[],
        metavar="NAME",
        help="what to put beside them: default, none, such as opus@8,16, or a command as NAME='CMD {in} {out}'; may be "
        "repeated; default: default",
    )
    command.add_argument("--codebooks", type=count, nargs="+", metavar="K", help="default: 1, 2, 4, … and all")
    _add_scoring(command)

    text = "score decoded files against their references, whatever made them"
    command = commands.add_parser("score", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=score)
    command.add_argument("reference", type=Path, metavar="REF", help="a folder, a manifest or a file")
    command.add_argument("decoded", type=Path, metavar="DEC", help="a folder of files of the same names, or a file")
    command.add_argument("--name", help="of what made them; default: the name of DEC")
    command.add_argument("--kbps", type=float, metavar="R", help="that it needed, in kbit/s; default: not known")
    _add_scoring(command)

    text = "paired differences of two evaluations; may the second model replace the first?"
    command = commands.add_parser("compare", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=compare)
    command.add_argument("a", metavar="A", help="the folder of an evaluation, or FOLDER:SYSTEM")
    command.add_argument("b", metavar="B", help="likewise; differences are B - A")
    command.add_argument("--out", type=Path, metavar="FILE", help="write the comparison as JSON")


def _add_scoring(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for results and report")
    command.add_argument("--split", help="of the manifest, such as test; default: all")
    command.add_argument("--kind", choices=("speech", "music"), help="default: as the manifest has it, else speech")
    command.add_argument("--limit", type=count, metavar="N", help="no more than N recordings, evenly picked")
    command.add_argument("--metrics", nargs="+", metavar="NAME", help="default: all that fit the kind")
    command.add_argument(
        "--thin",
        type=thinning,
        action="append",
        default=[],
        metavar="NAME=N",
        help="compute this metric for one recording in N only, chosen by hash: dnsmos_ovrl=4; may be repeated",
    )
    command.add_argument("--sample-rate", type=count, metavar="HZ", help="to score at; default: 16000, music 44100")
    command.add_argument("--workers", type=number, metavar="N", help="processes; 0: this one; default: one per core")
    command.add_argument("--clips", type=number, default=4, metavar="N", help="to listen to; default: %(default)s")
    command.add_argument(
        "--transcribe", metavar="MODULE_OR_FILE:FUNCTION", help="(audio, rate) -> text, for the word error rate"
    )
    command.add_argument(
        "--embed", metavar="MODULE_OR_FILE:FUNCTION", help="(audio, rate) -> vector, for the likeness of speakers"
    )


def _add_info(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "what an audio file, a code file or a model is"
    command = commands.add_parser("info", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=info)
    command.add_argument("things", nargs="+", metavar="THING", help="a file, a model folder or the name of a model")

    text = "check this machine: versions, golden codes, near-ties; what to paste into a bug report"
    command = commands.add_parser("doctor", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=doctor)
    command.add_argument("--device", default="cpu", help="such as cuda; default: %(default)s")


def _add_training(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "recordings -> training packs, split by speaker"
    command = commands.add_parser(
        "prepare",
        usage="vqaudio prepare DIR_OR_MANIFEST | NAME ROOT --out DIR [options]",
        help=text,
        description=f"{text}; docs/corpora.md tells of the corpora known by NAME",
        allow_abbrev=False,
    )
    command.set_defaults(run=prepare)
    command.add_argument(
        "source",
        metavar="DIR_OR_MANIFEST | NAME",
        help=f"alone: a folder of audio, or a .jsonl or .tsv of it; with ROOT: {', '.join(NAMES)}",
    )
    command.add_argument(
        "root", nargs="?", type=folder, metavar="ROOT", help="the folder of a corpus, or that holds it"
    )
    command.add_argument("--download", action="store_true", help="fetch into ROOT what is not there yet, and check it")
    command.add_argument(
        "--part",
        action="append",
        default=[],
        help="take only this part of a corpus; may be repeated; default: "
        "all that is there, and to download, of librispeech and libritts: train-clean-100, dev-clean, test-clean",
    )
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for the packs")
    command.add_argument("--sample-rate", type=int, default=16_000, metavar="HZ", help="default: %(default)s")
    command.add_argument(
        "--kind", action="append", default=[], help="take only this kind, such as speech; may be repeated"
    )
    command.add_argument(
        "--exclude-licence", action="append", default=[], metavar="TEXT", help="leave out licences that contain this"
    )
    command.add_argument("--min-seconds", type=float, default=0.5, metavar="S", help="default: %(default)s")
    command.add_argument(
        "--min-sample-rate", type=int, default=0, metavar="HZ", help="leave out recordings of a lower rate of their own"
    )

    text = "a recipe and training packs -> a model"
    command = commands.add_parser(
        "train",
        help=text,
        description=text,
        epilog="Settings of the recipe are changed by their dotted names: --codec.quantizer.num-codebooks 4",
        allow_abbrev=False,
    )
    command.set_defaults(run=train)
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe.toml, or the folder that holds it")
    command.add_argument("--packs", type=Path, required=True, metavar="DIR", help="the output of vqaudio prepare")
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for the run")
    budget = command.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, metavar="N", help="default: the recipe's")
    budget.add_argument("--minutes", type=float, metavar="M", help="of training, instead of a number of steps")
    command.add_argument("--seed", type=int, metavar="N", help="of weights and crops; default: the recipe's")
    command.add_argument(
        "--init-from",
        metavar="MODEL",
        help="begin from a model, by name or folder; with freeze in the recipe, keep parts",
    )
    command.add_argument(
        "--compare", type=Path, metavar="CSV", help="a reference curve: say in the end whether the run kept up with it"
    )
    command.add_argument(
        "--resume", choices=("auto", "never"), default="never", help="auto: go on where the run in --out stopped"
    )
    command.add_argument("--device", default="cpu", help="such as cuda; default: %(default)s")


def _add_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "a training run, finished or not, or an evaluation -> one page with its curves, codebooks and sounds"
    command = commands.add_parser("report", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=report)
    command.add_argument("folder", type=Path, metavar="RUN", help="what vqaudio train or evaluate had as --out")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in RUN")
    command.add_argument(
        "--compare", type=Path, metavar="CSV", help="a reference curve, such as recipes/speech_16k/curve.csv"
    )
    command.add_argument(
        "--tolerance", type=part_of, metavar="P", help="by which part a metric may be worse than there; default: 0.1"
    )
    command.add_argument("--tensorboard", action="store_true", help="also write RUN/tensorboard")
    command.add_argument("--follow", action="store_true", help="with --tensorboard: go on until the run ends")

    text = "an audio file -> its waveform, spectrogram and pitch as a picture; a code file -> its codes over time"
    command = commands.add_parser("plot", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=plot)
    command.add_argument("file", type=Path, metavar="FILE", help="an audio file, or a code file")
    command.add_argument("--out", type=Path, metavar="DIR_OR_FILE", help="a folder, or .png or .svg; default: FILE.png")
    command.add_argument(
        "--model", metavar="NAME_OR_FOLDER", help="also show the codes it makes of the file, and what they decode to"
    )
    command.add_argument("--device", default="cpu", help="of the model, such as cuda; default: %(default)s")


def _add_lm(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "a language model over codes: train, sample, evaluate; recipes/lm_speech shows how"
    lm = commands.add_parser("lm", help=text, description=text, allow_abbrev=False)
    steps = lm.add_subparsers(title="commands", required=True, metavar="COMMAND")
    described = {
        "train": (lm_train, "a recipe and a folder of codes, as `vqaudio encode --manifest` writes it -> a model"),
        "sample": (lm_sample, "a model -> new speech, from nothing or going on from a prompt"),
        "evaluate": (lm_evaluate, "bits per second beside an n-gram's, and samples beside reconstructions"),
    }
    parsers = {}
    for name, (run, text) in described.items():
        parsers[name] = steps.add_parser(name, help=text, description=text, allow_abbrev=False)
        parsers[name].set_defaults(run=run)
    command = parsers["train"]
    command.epilog = "Other settings of the recipe are changed by their dotted names: --model.width 128"
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="a recipe.toml, or the folder that holds it")
    command.add_argument("--tokenizer", metavar="NAME_OR_FOLDER", help="that made the codes; default: the recipe's")
    command.add_argument("--num-codebooks", type=count, metavar="K", help="the first ones; default: the recipe's")
    command.add_argument("--layout", choices=("delay", "flat"), help="default: the recipe's")
    command.add_argument("--steps", type=count, metavar="N", help="default: the recipe's")
    command.add_argument("--seed", type=number, metavar="N", help="of weights and rows; default: the recipe's")
    command.add_argument("--codes", type=Path, required=True, metavar="DIR", help="a folder of codes with its index")
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for the run")
    command.add_argument(
        "--resume", choices=("auto", "never"), default="never", help="auto: go on where the run in --out stopped"
    )
    command = parsers["sample"]
    command.add_argument("model", type=Path, metavar="MODEL", help="the folder of a language model")
    command.add_argument("--out", type=folder, required=True, metavar="DIR", help="folder for the samples")
    command.add_argument("--prompt", type=Path, metavar="FILE", help="an audio file or a .vqt; default: from nothing")
    command.add_argument("--prompt-seconds", type=seconds, metavar="S", help="of it; default: 3")
    command.add_argument("--count", type=count, default=1, metavar="N", help="default: %(default)s")
    command = parsers["evaluate"]
    command.add_argument("model", type=Path, metavar="MODEL", help="the folder of a language model")
    command.add_argument("codes", type=Path, metavar="CODES", help="the folder of codes that it was trained on")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="write the results as JSON")
    command.add_argument("--split", default="test", help="default: %(default)s")
    command.add_argument("--samples", type=number, default=0, metavar="N", help="also score N samples of each kind")
    command.add_argument("--prompt-seconds", type=seconds, default="2", metavar="S", help="default: %(default)s")
    command.add_argument("--clips", type=folder, metavar="DIR", help="keep what was sampled")
    for name in ("sample", "evaluate"):
        _add_sampling(parsers[name])
    for command in parsers.values():
        command.add_argument("--device", default="cpu", help="such as cuda; default: %(default)s")


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seconds", type=seconds, default="6", metavar="S", help="of a sample, its prompt included; default: 6"
    )
    command.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0: the likeliest; default: 1")
    command.add_argument("--top-k", type=count, metavar="N", help="draw from the N likeliest only; default: all")
    command.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="draw from the likeliest that have P of all; default: 1"
    )
    command.add_argument("--seed", type=number, default=0, metavar="N", help="one seed, one result; default: 0")
    command.add_argument(
        "--tokenizer", metavar="NAME_OR_FOLDER", help="default: by the name that the language model's recipe had"
    )
