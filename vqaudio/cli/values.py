"""What a word of the command line may be: types for argparse, each with an error that says what is wanted."""

import argparse
from fractions import Fraction
from pathlib import Path
from typing import Literal


def folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, and a folder is wanted")
    return path


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


def number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on")
    return int(text)


def thinning(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=N, such as dnsmos_ovrl=4")
    return name, int(number)


def part_of(text: str) -> float:
    try:
        part = float(text)
    except ValueError:
        part = -1.0
    if not 0 <= part < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a part from 0 on, such as 0.1")
    return part


def seconds(text: str) -> Fraction:
    try:
        seconds = Fraction(text)
    except (ValueError, ZeroDivisionError):
        seconds = Fraction(-1)
    if seconds < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0 on")
    return seconds


def rate(text: str) -> int | Literal["source"] | None:
    if text == "source":
        return "source"
    if text == "model":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is neither source, model nor a positive number of Hz")
    return int(text)
