"""Programs: the layers' own arithmetic on fixed buffers, for every encoder and decoder."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.tiny import HOP, KINDS, noise, tiny_codec
from vqaudio.nn import CausalConv1d, Program, Stream, UnreadableError, name_streams
from vqaudio.nn.layer import Layer

every_kind = pytest.mark.parametrize("kind", KINDS)
every_side = pytest.mark.parametrize("side", ["encoder", "decoder"])


def module_and_inputs(kind: str, side: str, frames: int, count: int) -> tuple[nn.Module, list[Tensor]]:
    codec = tiny_codec(kind)
    channels, length = (1, frames * HOP) if side == "encoder" else (codec.quantizer.dim, frames)
    return getattr(codec, side), [noise(channels, length, seed)[None] for seed in range(count)]


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """To the rounding of sums as large as the loudest sample."""
    torch.testing.assert_close(ours, theirs, atol=2e-6 * max(1.0, float(theirs.abs().max())), rtol=1e-5)


@every_kind
@every_side
@pytest.mark.parametrize("frames", [1, 2, 8])  # shorter than some layers' memory, and longer
@torch.no_grad()
def test_program_does_what_the_layers_do(kind: str, side: str, frames: int) -> None:
    module, inputs = module_and_inputs(kind, side, frames, 4)
    program = Program(module, channels=inputs[0].shape[1], length=inputs[0].shape[2])
    ours: Stream = {}
    theirs: Stream = {}
    for x in inputs:
        assert_near(program(x, ours), module(x, theirs))
    assert ours.keys() == theirs.keys()
    for key, state in theirs.items():
        assert_near(ours[key], state)


@every_kind
@every_side
@torch.no_grad()
def test_state_is_the_streams_and_nothing_else(kind: str, side: str) -> None:
    module, (first, second, other) = module_and_inputs(kind, side, 3, 3)
    program = Program(module, channels=first.shape[1], length=first.shape[2])
    stream: Stream = {}
    program(first, stream)
    kept = {key: state.clone() for key, state in stream.items()}
    expected = program(second, stream).clone()
    program(other, {})  # another signal in between
    assert torch.equal(program(second, kept), expected)
    # and a stream that the layers have brought so far is taken up
    theirs: Stream = {}
    module(first, theirs)
    assert_near(program(second, theirs), expected)


@every_side
@torch.no_grad()
def test_weights_are_not_copied(side: str) -> None:
    module, (x,) = module_and_inputs("rvq-projected", side, 3, 1)
    module = copy.deepcopy(module)
    program = Program(module, channels=x.shape[1], length=x.shape[2])
    before = program(x, {}).clone()
    for parameter in module.parameters():
        parameter.data.mul_(1.1)
    assert program.holds(module)
    torch.testing.assert_close(program(x, {}), module(x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(program(x, {}), before)


def test_weights_that_moved_are_noticed() -> None:
    module = copy.deepcopy(tiny_codec("rvq-projected").encoder)
    program = Program(module, channels=1, length=HOP)
    layer = next(layer for layer in module.modules() if isinstance(layer, CausalConv1d))
    layer.conv.weight.data = layer.conv.weight.data.clone()
    assert not program.holds(module)


def test_memory_is_used_again() -> None:
    """One buffer per value would take as much memory as all values together."""
    module = tiny_codec("rvq-projected").encoder
    program = Program(module, channels=1, length=50 * HOP)
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in program._buffers.memory()}
    all_values = sum(node.output.channels * node.output.length for node in program._nodes)
    assert sum(tensor.untyped_storage().nbytes() // 4 for tensor in storages.values()) < 0.8 * all_values


class Odd(nn.Module):
    """Something that no operation is known for."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.conv = CausalConv1d(2, 2, 3)
        self.function = function
        name_streams(self)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        out: Tensor = self.function(self.conv(x, stream))  # type: ignore[operator]
        return out


@pytest.mark.parametrize(
    "function", [torch.sin, lambda x: F.relu(x, inplace=True), lambda x: F.gelu(x, approximate="tanh")]
)
def test_what_cannot_be_read_is_refused(function: object) -> None:
    with pytest.raises(UnreadableError):
        Program(Odd(function), channels=2, length=4)


@pytest.mark.parametrize("arguments", [{"kernel_size": 3, "groups": 2}, {"kernel_size": 5, "stride": 2}])
def test_convolutions_without_an_operation_are_refused(arguments: dict[str, int]) -> None:
    layer = CausalConv1d(4, 8, **arguments)
    with pytest.raises(UnreadableError, match="convolution"):
        Program(layer, channels=4, length=4)


@pytest.mark.parametrize("used_later", [False, True])
@torch.no_grad()
def test_a_product_of_what_it_is_added_to(used_later: bool) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (CausalConv1d(3, 3, 1) for _ in range(3))
            name_streams(self)

        def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
            y = self.a(x, stream)
            out: Tensor = self.c(y + self.b(y, stream), stream)
            return out + y if used_later else out

    module, x = Residual(), noise(3, 8)[None]
    assert_near(Program(module, channels=3, length=8)(x, {}), module(x))


def test_two_memories_of_one_value_are_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = CausalConv1d(2, 2, 3), CausalConv1d(2, 2, 3)
            name_streams(self)

        def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
            out: Tensor = self.a(x, stream) + self.b(x, stream)
            return out

    with pytest.raises(UnreadableError, match="remember the same value"):
        Program(Twice(), channels=2, length=4)


def test_a_layer_with_a_memory_of_its_own_kind_is_refused() -> None:
    class Accumulating(Layer):
        stream_key = "sum"

        def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
            return x.cumsum(dim=-1)

    with pytest.raises(UnreadableError, match="Accumulating"):
        Program(Accumulating(), channels=2, length=4)
