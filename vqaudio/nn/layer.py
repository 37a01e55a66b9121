"""Layers that can be read: a module built of them tells what it does when called with a `Value` instead of a tensor.

    x = Value(channels, length, record)
    y = module(x)            record(layer, x) for each layer in turn, record(torch.add, a, b) for each sum, ...

The forward that computes is the forward that is read, so that `nn.program` needs no second description of a model.
Nothing outside these classes is touched, so other threads may run other models meanwhile.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Value:
    """Stands for a tensor (1, C, T) that `record` is told of: record(step, *inputs) -> the step's output."""

    def __init__(self, channels: int, length: int, record: Callable[..., "Value"]) -> None:
        self.channels, self.length, self.record = channels, length, record

    def __add__(self, other: "Value") -> "Value":
        return self.record(torch.add, self, other)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> "Value":
        """A function of torch is applied to a value: recorded as it is, or with its arguments if they say something."""
        (value, *rest) = args
        said = {name: given for name, given in (kwargs or {}).items() if given is not False}  # relu: inplace=False
        return value.record((function, rest, said) if rest or said else function, value)


class Layer(nn.Module):
    """A module of one input (B, C, T), and the stream if it keeps time, that is recorded as a whole."""

    def __call__(self, x: Any, *stream: Any) -> Any:
        if isinstance(x, Value):
            return x.record(self, x)
        return super().__call__(x, *stream)
