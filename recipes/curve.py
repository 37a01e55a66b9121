"""The validation curve of a run: log.jsonl -> curve.csv, and a Markdown table on standard output.

python recipes/curve.py RUN_FOLDER recipes/NAME/curve.csv
"""

import sys
from pathlib import Path

from vqaudio.training.curve import curve_table, validations, write_curve


def main() -> None:
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        rows = validations(run / "log.jsonl")
    except ValueError as error:
        sys.exit(str(error))
    write_curve(rows, out)
    print("\n".join(curve_table(rows)))


if __name__ == "__main__":
    main()
