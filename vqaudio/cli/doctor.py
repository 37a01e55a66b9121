"""vqaudio doctor: is everything as it should be on this machine?"""

from argparse import Namespace

from vqaudio.cli.reporting import in_one_sentence, say
from vqaudio.doctor import FACTS_NAME, Finding, examine, surroundings
from vqaudio.shipped import shipped_models


def doctor(options: Namespace) -> int:
    """Print what a bug report needs, and check every shipped model; 1 if something is wrong."""
    all_good = _print(surroundings(options.device))
    folders = [folder for name, folder in shipped_models().items() if name == folder.name]  # and no aliases
    for folder in folders:
        say(f"\n{folder.name}")
        if not (folder / FACTS_NAME).is_file():
            all_good &= _print([Finding("golden codes", f"{folder / FACTS_NAME} is missing", good=False)])
            continue
        try:
            findings = examine(folder, options.device)
        except (ValueError, OSError) as error:
            findings = [Finding("model", in_one_sentence(error), good=False)]
        all_good &= _print(findings)
    say("\neverything is as it should be" if all_good else "\nlines marked with ! are not as they should be")
    return 0 if all_good else 1


def _print(findings: list[Finding]) -> bool:
    for finding in findings:
        say(f"{' ' if finding.good else '!'} {finding.label:16} {finding.text}")
    return all(finding.good for finding in findings)
