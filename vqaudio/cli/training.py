"""vqaudio prepare and vqaudio train."""

import os
from argparse import Namespace

from vqaudio.cli.corpora import find_source
from vqaudio.cli.reporting import note, progress_bar, say, show
from vqaudio.data.prepare import DROPPED_NAME, prepare as prepare_packs


def prepare(options: Namespace) -> int:
    """A folder, manifest or corpus -> packs; what was dropped is counted, and listed in the output folder."""
    source = find_source(options)
    with progress_bar(1, "files") as bar:
        report = prepare_packs(
            source.recordings,
            options.out,
            dropped=source.dropped,
            sample_rate=options.sample_rate,
            kinds=options.kind,
            exclude_licences=options.exclude_licence,
            min_seconds=options.min_seconds,
            min_sample_rate=options.min_sample_rate,
            progress=lambda done, total, text: show(bar, done, total, text),
        )
    for split, count in sorted(report.clips.items()):
        say(f"{split}: {count} recordings, {report.seconds[split] / 60:.1f} minutes")
    if report.dropped:
        causes = ", ".join(f"{count} {cause}" for cause, count in report.causes.items())
        say(f"dropped: {len(report.dropped)} ({causes}); see {options.out / DROPPED_NAME}")
    say(f"{'packed into' if report.written else 'nothing to do, these packs are in'} {options.out}")
    return 0


def train(options: Namespace) -> int:
    """A recipe and packs -> a trained model."""
    # Here, because coding files must not load the losses.
    from vqaudio.training import RunFailedError, RunStoppedError, load_recipe, train as train_recipe
    from vqaudio.training.curve import compare_run, read_curve

    seed = {} if options.seed is None else {"seed": str(options.seed)}
    recipe = load_recipe(options.recipe, options.overrides | seed)
    if options.compare is not None:
        read_curve(options.compare)  # one that cannot be read is told now, not after hours
    try:
        model = train_recipe(
            recipe,
            options.packs,
            options.out,
            steps=options.steps,
            minutes=options.minutes,
            resume=options.resume,
            init_from=options.init_from,
            device=options.device,
        )
    except RunStoppedError as stopped:
        note(f"vqaudio: {stopped}")
        return 128 + stopped.signal_number  # as a shell says it of a process that a signal has ended
    except RunFailedError as failed:
        note(f"vqaudio: {failed}")
        return 1
    if "RANK" not in os.environ or os.environ["RANK"] == "0":
        say(f"the model is in {model}")
        if options.compare is not None:
            say("\n".join(compare_run(options.out, options.compare).lines()))
    return 0
