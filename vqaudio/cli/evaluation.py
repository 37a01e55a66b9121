"""vqaudio evaluate, score and compare: how good is it, and is it better?"""

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vqaudio.cli.coding import UsageError
from vqaudio.cli.reporting import note, progress_bar, say, show
from vqaudio.io import write_aside

if TYPE_CHECKING:  # commands that code files must not load losses and metrics
    from vqaudio.evaluation.measures import Kind, Measure
    from vqaudio.evaluation.recordings import Selection
    from vqaudio.evaluation.systems import System

MOST_PROBLEMS = 20  # that are printed; all of them are in the results


def evaluate(options: Namespace) -> int:
    """Models, and other codecs beside them, on recordings."""
    from vqaudio.evaluation.codecs import CommandCodec, reference_systems, system_from
    from vqaudio.evaluation.model import ModelSystem
    from vqaudio.evaluation.recordings import select

    *models, data = options.things
    if not models and set(options.codec) <= {"none"}:
        raise UsageError("a model and the data are wanted: vqaudio evaluate MODEL… DATA --out DIR")
    selection = select(data, split=options.split, kind=options.kind, limit=options.limit)
    systems: list[System] = [ModelSystem(model, tuple(options.codebooks or ())) for model in models]
    for text in options.codec or ["default"]:
        if text == "default":
            systems += reference_systems(selection.kind)
        elif "{in}" in text:
            name, equals, template = text.partition("=")
            if not equals or "{" in name or " " in name:
                raise UsageError(f"--codec {text!r}: a command is given with its name, NAME=CMD {{in}} {{out}}")
            systems.append(CommandCodec(name, template))
        elif text != "none":
            systems.append(system_from(text, kind=selection.kind))
    return _run(systems, selection, options)


def score(options: Namespace) -> int:
    """Decoded files beside their references, whatever made them."""
    from vqaudio.evaluation.decoded import DecodedFolder, unpaired
    from vqaudio.evaluation.recordings import select

    reference, decoded = options.reference, options.decoded
    for folder in (reference, decoded):
        if not folder.exists():
            raise UsageError(f"{folder}: there is no such file or folder")
    selection = select(reference, split=options.split, kind=options.kind, limit=options.limit)
    paths = [recording.path for recording in selection.recordings]
    if decoded.is_file() and not reference.is_file():
        raise UsageError(f"{decoded} is a file and {reference} is not: two files or two folders are wanted")
    if decoded.is_file():
        system = DecodedFolder(str(decoded), options.name or decoded.stem, options.kbps)
    else:
        system = DecodedFolder(str(decoded), options.name or decoded.resolve().name, options.kbps)
        strangers = unpaired(decoded, paths)
        if len(strangers) and not any(_has_pair(system, path) for path in paths):
            raise ValueError(
                f"{reference} and {decoded} have no file in common: there is {paths[0]} in one and {strangers[0]} in "
                "the other; files are paired by their path below the folder, without its ending"
            )
        for path in strangers[:MOST_PROBLEMS]:
            note(f"{decoded / path}: is of no recording in {reference}")
    return _run([system], selection, options)


def compare(options: Namespace) -> int:
    """Two evaluations of the same recordings, difference by difference."""
    from vqaudio.evaluation.compare import compare as compared, comparison_rows, contender
    from vqaudio.evaluation.tables import markdown_table

    comparison = compared(contender(options.a), contender(options.b))
    a, b = comparison["a"]["name"], comparison["b"]["name"]
    data = comparison["data"]
    say(f"{b} minus {a} on {data['files']} recordings of {data['speakers'] or 'unknown'} speakers\n")
    say(markdown_table(*comparison_rows(comparison)))
    if comparison["versions_differ"]:
        say(f"\nmade with other versions of {', '.join(comparison['versions_differ'])}")
    if any(value["lost"] for point in comparison["points"] for value in point["values"].values()):
        say(f"\nlost: recordings that {a} was scored on and {b} was not, which failed, or came back silent")
    decisive = ", ".join(comparison["decisive"])
    verdict = "may" if comparison["may_replace"] else "may not"
    wanted = "must all be settled in its favour at its highest rate, with no recording lost"
    say(f"\n{b} {verdict} replace {a}: {decisive} {wanted}")
    if options.out is not None:
        with write_aside(options.out) as partial:
            partial.write_text(json.dumps(comparison, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _run(systems: "Sequence[System]", selection: "Selection", options: Namespace) -> int:
    from vqaudio.evaluation.evaluate import Options, evaluate as evaluated, usable_cores
    from vqaudio.evaluation.report import write_report
    from vqaudio.evaluation.tables import points_table, remarks

    measures = _measures(selection.kind, options)
    workers = usable_cores() if options.workers is None else options.workers
    with progress_bar(1, "units") as bar:
        summary = evaluated(
            systems,
            selection,
            options.out,
            measures=measures,
            scoring_rate=options.sample_rate,
            options=Options(
                workers=workers,
                clips=options.clips,
                progress=lambda done, total, text: show(bar, done, total, text),
            ),
        )
    say(points_table(summary))
    lines = remarks(summary, most=MOST_PROBLEMS)
    say("\n".join(["", *lines] if lines else []))
    page = write_report(options.out)
    say(f"results are in {options.out}, the report in {page}")
    return int(any(problem["failed"] for problem in summary["problems"]))


def _measures(kind: "Kind", options: Namespace) -> "list[Measure]":
    """All that were made for this kind of recording, or those asked for by the names of their values."""
    from vqaudio.evaluation.external import external_measures
    from vqaudio.evaluation.listeners import load_callable, speaker_similarity, word_error_rate
    from vqaudio.evaluation.own import own_measures

    measures = [measure for measure in (*external_measures(), *own_measures()) if kind in measure.kinds]
    if options.transcribe is not None:
        load_callable(options.transcribe)  # a mistake shows now, not after an hour
        measures.append(word_error_rate(options.transcribe))
    if options.embed is not None:
        load_callable(options.embed)
        measures.append(speaker_similarity(options.embed))
    known = [value.name for measure in measures for value in measure.values]
    thin = dict(options.thin)
    for name in (*(options.metrics or ()), *thin):
        if name not in known:
            raise UsageError(f"{name!r} is unknown for {kind}; known: {', '.join(known)}")
    if options.metrics is not None:
        measures = [m for m in measures if any(value.name in options.metrics for value in m.values)]
    return [replace(m, one_in=max(thin.get(value.name, 1) for value in m.values)) for m in measures]


def _has_pair(system: "System", path: str) -> bool:
    from vqaudio.evaluation.decoded import DecodedFolder

    assert isinstance(system, DecodedFolder)
    try:
        return system.find(path).is_file()
    except ValueError:
        return False
