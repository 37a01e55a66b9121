"""The command line, `vqaudio`: arguments.py says what can be typed, the other files do it."""

from vqaudio.cli.arguments import main as main
