"""vqaudio report: a training run on one page, beside a reference curve, as TensorBoard events; or an evaluation."""

from argparse import Namespace

from vqaudio.cli.coding import UsageError
from vqaudio.cli.reporting import say


def report(options: Namespace) -> int:
    """Write the page of a run, finished or not; with a reference curve, also say whether the run keeps up with it.

    A folder with the results of an evaluation gets the page of that.
    """
    if options.follow and not options.tensorboard:
        raise UsageError("--follow keeps on writing TensorBoard events: --tensorboard is wanted with it")
    # Here, because coding files must not load the losses.
    from vqaudio.evaluation.report import is_evaluation

    if is_evaluation(options.folder):
        return _evaluation(options)
    from vqaudio.training.curve import TOLERANCE, compare_run
    from vqaudio.training.health import replay
    from vqaudio.training.history import read_log
    from vqaudio.training.page import write_page

    tolerance = TOLERANCE if options.tolerance is None else options.tolerance
    for step, finding in replay(read_log(options.folder)):
        say(f"! step {step:,}, {finding.name}: {finding.message} {finding.remedy}")
    page = write_page(options.folder, out=options.out, curve=options.compare, tolerance=tolerance)
    say(f"the report is in {page}")
    if options.compare is not None:
        say("\n".join(compare_run(options.folder, options.compare, tolerance=tolerance).lines()))
    if options.tensorboard:
        from vqaudio.training.tensorboard import events, follow

        folder = follow(options.folder) if options.follow else events(options.folder)
        say(f"TensorBoard events are in {folder}")
    return 0


def _evaluation(options: Namespace) -> int:
    if options.compare is not None or options.tensorboard:
        raise UsageError(
            f"{options.folder} is an evaluation, and --compare and --tensorboard are of a training run; "
            "vqaudio compare sets two evaluations against each other"
        )
    from vqaudio.evaluation.report import write_report

    say(f"the report is in {write_report(options.folder, out=options.out)}")
    return 0
