"""A chain of layers as a fixed list of operations on fixed buffers: how blocks of one length run on a CPU.

For a block of a few seconds, much of the time of an ordinary forward goes to what is not arithmetic: views,
allocations, copies that put the past in front of the present. All of it is the same for every block, so it is done
once. A `Program` reads a module's own forward, by calling it with a `Value` in place of a tensor, and writes down which
layer takes which value. Then each value gets its buffer, in which a layer's memory lies right before the block:

    past | block                 a convolution reads its taps from here as slices, its input was written here
    . .  | a b c d e f           in the first place, and what stays for the next block is one short copy
                | | |
     ▲──────────┴─┘

The arithmetic is that of the layers, summed in another order. The weights are not copied: what training or loading
writes into them is seen. The state goes in and out as the same `Stream` that the layers use.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.nn.activation import Snake
from vqaudio.nn.conv import CausalConv1d, CausalConvTranspose1d, Stream
from vqaudio.nn.layer import Value
from vqaudio.nn.spectral import LogBands, Polar

Operation = Callable[[], Any]


class UnreadableError(Exception):
    """A forward that does something for which there is no operation here; it has to run as it is."""


class _Node:
    """One application of a layer or function."""

    def __init__(self, step: Any, inputs: tuple[Value, ...], output: Value) -> None:
        self.step, self.inputs, self.output = step, inputs, output


class Program:
    """`module` for inputs (1, C, T) of one length T, without gradients. Not for two threads at once."""

    def __init__(self, module: nn.Module, *, channels: int, length: int) -> None:
        self.weights = tuple(parameter.data_ptr() for parameter in module.parameters())
        self._nodes: list[_Node] = []
        self._input = Value(channels, length, self._record)
        self._output: Value = module(self._input)
        self._heads: dict[str, Tensor] = {}  # what each layer remembers, (history, C) of its input's buffer
        self._buffers = _Buffers(self._nodes, self._input, self._output)
        self._operations: list[Operation] = []
        done: set[int] = set()
        for position in range(len(self._nodes)):
            if position not in done:
                self._operations += self._compiled(position, done)
            self._buffers.release_after(position)

    def holds(self, module: nn.Module) -> bool:
        """Whether the weights are where they were: moved ones, as by `.to`, need a new program."""
        return self.weights == tuple(parameter.data_ptr() for parameter in module.parameters())

    @torch.no_grad()
    def __call__(self, x: Tensor, stream: Stream) -> Tensor:
        """(1, C, T) -> (1, C_out, T_out), a view that the next call overwrites; `stream` is brought up to date."""
        for key, head in self._heads.items():
            past = stream.get(key)
            if past is None:
                head.zero_()
            else:
                head.copy_(past[0].t())
        self._buffers.body(self._input).copy_(x[0].t())
        for operation in self._operations:
            operation()
        for key, head in self._heads.items():
            stream[key] = head.clone().t()[None]
        return self._buffers.body(self._output).t()[None]

    # ---- reading the forward

    def _record(self, step: Any, *inputs: Value) -> Value:
        """Called by values: `step` is applied to them."""
        (x, *_) = inputs
        channels, length = x.channels, x.length
        if isinstance(step, CausalConv1d):
            if length % step.stride:
                raise UnreadableError(f"length {length} at stride {step.stride}")
            channels, length = step.conv.out_channels, length // step.stride
        elif isinstance(step, CausalConvTranspose1d):
            channels, length = step.out_channels, length * step.stride
        elif hasattr(step, "stream_key") or not (isinstance(step, nn.Module) or step in (torch.add, F.relu, F.gelu)):
            raise UnreadableError(f"{step}")  # a layer that keeps time in a way of its own, or an unknown function
        elif isinstance(step, (LogBands, Polar)):
            channels = step.out_channels
        output = Value(channels, length, self._record)
        self._nodes.append(_Node(step, inputs, output))
        return output

    # ---- operations

    def _compiled(self, position: int, done: set[int]) -> list[Operation]:
        node = self._nodes[position]
        step = node.step
        if isinstance(step, (CausalConv1d, CausalConvTranspose1d)):
            if self._is_added(position):  # x + conv(y): the products are added to x, where it lies if it may change
                done.add(position + 1)
                following = self._nodes[position + 1]
                (x, _) = following.inputs
                before = self._buffers.body(x)
                shared = self._buffers.share(following.output, x, last=position + 1)
                total = self._buffers.body(following.output)
                copies: list[Operation] = [] if shared else [lambda: total.copy_(before)]
                return copies + self._products(step, node.inputs[0], total, add=True)
            return self._products(step, node.inputs[0], self._buffers.body(node.output), add=False)
        inputs = [self._buffers.body(value) for value in node.inputs]
        output = self._buffers.body(node.output)
        if isinstance(step, Snake):
            return [lambda: _snake(step, inputs[0], output)]
        if isinstance(step, nn.Module):  # looks at one frame at a time; not worth an operation of its own
            return [lambda: output.copy_(step(*(rows.t()[None] for rows in inputs))[0].t())]
        if step is torch.add:
            return [lambda: torch.add(*inputs, out=output)]
        if step is F.relu:
            return [lambda: torch.clamp(inputs[0], min=0.0, out=output)]
        return [lambda: torch.ops.aten.gelu.out(inputs[0], out=output)]

    def _is_added(self, position: int) -> bool:
        """Whether the next node does nothing but add this one's output, which has no other use, to another value."""
        node = self._nodes[position]
        if position + 1 == len(self._nodes) or not isinstance(node.step, CausalConv1d) or node.step.history:
            return False
        following = self._nodes[position + 1]
        adds = following.step is torch.add and following.inputs[1] is node.output
        if following.inputs[0] in (node.output, *node.inputs):  # x + conv(x): x cannot be added to while it is read
            return False
        return adds and self._buffers.last_use(node.output) == position + 1

    def _products(
        self, layer: CausalConv1d | CausalConvTranspose1d, x: Value, output: Tensor, *, add: bool
    ) -> list[Operation]:
        """The operations of a convolution: a matrix product for each tap, and keeping what it is to remember."""
        conv = layer.conv
        (kernel,), (stride,), (dilation,) = conv.kernel_size, conv.stride, conv.dilation
        rows = self._buffers.rows(x, layer.history)  # (history + T, C_in)
        taps = conv.weight.detach().permute(2, 1, 0)  # (kernel, C_in / groups, C_out)
        if not taps.is_contiguous():
            raise UnreadableError("a kernel that is not laid out as (tap, C_in, C_out)")
        bias = None if conv.bias is None else conv.bias.detach()
        operations: list[Operation]
        if conv.groups == conv.in_channels == conv.out_channels and stride == 1:
            pairs = _windows(rows, taps[:, 0], dilation, x.length)
            operations = [lambda: _scaled(pairs, bias, output)]
        elif conv.groups == 1 and (stride == 1 or (dilation == 1 and kernel % stride == 0)):
            if stride > 1:
                rows = rows.view(-1, stride * conv.in_channels)
                taps = taps.view(kernel // stride, stride * conv.in_channels, -1)
            sums = output.view(x.length // stride, conv.out_channels)
            pairs = _windows(rows, taps, dilation, len(sums))
            operations = [lambda: _added(pairs, bias, sums) if add else _summed(pairs, bias, sums)]
        else:
            raise UnreadableError(f"a convolution of stride {stride}, dilation {dilation}, {conv.groups} groups")
        if layer.history:
            head = self._heads[layer.stream_key] = self._buffers.rows(x, layer.history)[: layer.history]
            tail = self._buffers.rows(x, layer.history)[-layer.history :]
            overlap = layer.history > x.length
            operations.append(lambda: head.copy_(tail.clone() if overlap else tail))
        return operations


def _windows(rows: Tensor, taps: Tensor, dilation: int, length: int) -> list[tuple[Tensor, Tensor]]:
    return [(rows[tap * dilation : tap * dilation + length], taps[tap]) for tap in range(len(taps))]


def _summed(pairs: list[tuple[Tensor, Tensor]], bias: Tensor | None, output: Tensor) -> None:
    (rows, weight), *others = pairs
    if bias is None:
        torch.mm(rows, weight, out=output)
    else:
        torch.addmm(bias, rows, weight, out=output)
    for rows, weight in others:
        output.addmm_(rows, weight)


def _added(pairs: list[tuple[Tensor, Tensor]], bias: Tensor | None, output: Tensor) -> None:
    for rows, weight in pairs:
        output.addmm_(rows, weight)
    if bias is not None:
        output.add_(bias)


def _scaled(pairs: list[tuple[Tensor, Tensor]], bias: Tensor | None, output: Tensor) -> None:
    (rows, weight), *others = pairs
    if bias is None:
        torch.mul(rows, weight, out=output)
    else:
        torch.addcmul(bias, rows, weight, out=output)
    for rows, weight in others:
        output.addcmul_(rows, weight)


def _snake(layer: Snake, x: Tensor, output: Tensor) -> None:
    alpha = layer.positive_alpha()[:, 0]
    torch.mul(x, alpha, out=output)
    output.sin_().square_().mul_(alpha.reciprocal_()).add_(x)


class _Buffers:
    """The memory of every value: (room for the past + T, C). Where there is no past, it is used again later."""

    def __init__(self, nodes: list[_Node], start: Value, end: Value) -> None:
        self._last_use: dict[Value, int] = {}
        self._headroom: dict[Value, int] = {}
        for position, node in enumerate(nodes):
            for value in node.inputs:
                self._last_use[value] = max(self._last_use.get(value, 0), position)
                history = getattr(node.step, "history", 0)
                if history and self._headroom.get(value):
                    raise UnreadableError("two layers that remember the same value")
                self._headroom[value] = max(self._headroom.get(value, 0), history)
        self._last_use[start] = self._last_use[end] = len(nodes)  # whoever calls writes the one and reads the other
        self._memory: dict[Value, Tensor] = {}
        self._free: dict[int, list[Tensor]] = {}

    def memory(self) -> list[Tensor]:
        """All of it that is held."""
        return [*self._memory.values(), *(tensor for free in self._free.values() for tensor in free)]

    def last_use(self, value: Value) -> int:
        """The position of the last node that takes it."""
        return self._last_use[value]

    def rows(self, value: Value, history: int) -> Tensor:
        """(history + T, C), the block with the past right before it."""
        if value not in self._memory:
            room = self._headroom.get(value, 0)
            size = (room + value.length) * value.channels
            free = [] if room else self._free.get(size, [])
            self._memory[value] = free.pop() if free else torch.zeros(size, dtype=torch.float32)
        memory = self._memory[value].view(-1, value.channels)
        return memory[len(memory) - value.length - history :]

    def body(self, value: Value) -> Tensor:
        """(T, C), the block alone."""
        return self.rows(value, 0)

    def share(self, value: Value, other: Value, *, last: int) -> bool:
        """Put `value` where `other` lies, if node `last` is the last to take that, and `value` needs no past there."""
        if self._last_use[other] > last or self._headroom.get(value, 0):
            return False
        self._memory[value] = self._memory.pop(other)
        return True

    def release_after(self, position: int) -> None:
        """Give the memory of values that are dead now to those to come; not what holds a past."""
        for value in [value for value in self._memory if self._last_use[value] == position]:
            if self._memory[value].numel() == value.length * value.channels:
                memory = self._memory.pop(value)
                self._free.setdefault(memory.numel(), []).append(memory)
