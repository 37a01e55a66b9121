"""`python -m vqaudio.cli`: the command line where its script is not on the path."""

import sys

from vqaudio.cli.arguments import main

if __name__ == "__main__":
    sys.exit(main())
