"""Causal convolutions: a stream in any steps is the whole, nothing sees the future, and torch's own layers agree."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.nn import CausalConv1d, CausalConvTranspose1d, Snake, Stream, name_streams

# kernel, stride, dilation, and the history that follows: (kernel - 1) · dilation + 1 - stride
SHAPES = [(3, 1, 1, 2), (1, 1, 1, 0), (4, 2, 1, 2), (10, 5, 1, 5), (3, 1, 4, 8), (3, 3, 1, 0), (5, 2, 3, 11)]
any_shape = pytest.mark.parametrize(("kernel", "stride", "dilation", "history"), SHAPES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conv(kernel: int, stride: int, dilation: int) -> CausalConv1d:
    layer = CausalConv1d(2, 3, kernel, stride=stride, dilation=dilation)
    nn.init.normal_(layer.conv.weight, generator=seeded(1))
    nn.init.normal_(layer.conv.bias, generator=seeded(2))
    return layer


def transposed(stride: int) -> CausalConvTranspose1d:
    layer = CausalConvTranspose1d(3, 2, stride=stride)
    nn.init.normal_(layer.conv.weight, generator=seeded(1))
    nn.init.normal_(layer.conv.bias, generator=seeded(2))
    return layer


def in_steps(layer: nn.Module, x: Tensor, steps: list[int]) -> Tensor:
    """The output of `layer` on x (B, C, T) when it comes in pieces of these lengths, with its state carried along."""
    stream: Stream = {}
    return torch.cat([layer(piece, stream) for piece in x.split(steps, dim=-1)], dim=-1)


@any_shape
@given(steps=st.lists(st.integers(0, 6), min_size=1, max_size=5))
def test_stream_in_any_steps_is_the_whole(
    kernel: int, stride: int, dilation: int, history: int, steps: list[int]
) -> None:
    layer = conv(kernel, stride, dilation)
    x = torch.randn(2, 2, sum(steps) * stride, generator=seeded())
    whole = layer(x)
    assert whole.shape == (2, 3, sum(steps))
    torch.testing.assert_close(in_steps(layer, x, [step * stride for step in steps]), whole, atol=1e-6, rtol=1e-6)


@given(stride=st.integers(1, 5), steps=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_stream_of_a_transposed_convolution_is_the_whole(stride: int, steps: list[int]) -> None:
    layer = transposed(stride)
    x = torch.randn(2, 3, sum(steps), generator=seeded())
    whole = layer(x)
    assert whole.shape == (2, 2, sum(steps) * stride)
    torch.testing.assert_close(in_steps(layer, x, steps), whole, atol=1e-6, rtol=1e-6)


@any_shape
def test_equals_torchs_convolution_of_the_padded_signal(kernel: int, stride: int, dilation: int, history: int) -> None:
    layer = conv(kernel, stride, dilation)
    x = torch.randn(2, 2, 12 * stride, generator=seeded())
    expected = F.conv1d(F.pad(x, (history, 0)), layer.conv.weight, layer.conv.bias, stride=stride, dilation=dilation)
    assert layer.history == history
    assert expected.shape[-1] == 12
    torch.testing.assert_close(layer(x), expected)


@any_shape
@given(data=st.data())
def test_frame_sees_its_history_and_its_own_samples_only(
    kernel: int, stride: int, dilation: int, history: int, data: st.DataObject
) -> None:
    layer = conv(kernel, stride, dilation)
    x = torch.randn(1, 2, 12 * stride, generator=seeded())
    sample = data.draw(st.integers(0, x.shape[-1] - 1))
    moved = x.clone()
    moved[..., sample] += 1.0
    changed = (layer(moved) != layer(x)).any(dim=1)[0].nonzero().flatten().tolist()
    taps = [sample - tap * dilation for tap in range(kernel)]  # where a window may begin to cover the sample
    assert changed == sorted(
        (start + history) // stride
        for start in taps
        if (start + history) % stride == 0 and 0 <= (start + history) // stride < 12
    )
    assert all(sample <= (frame + 1) * stride - 1 for frame in changed), "a frame saw the future"
    assert all(sample >= frame * stride - history for frame in changed), "a frame remembers more than its history"


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_transposed_equals_torchs_with_kernel_twice_the_stride(stride: int) -> None:
    layer = transposed(stride)
    oracle = nn.ConvTranspose1d(3, 2, 2 * stride, stride=stride)
    # tap 1 of the two-tap convolution meets the frame itself, tap 0 the one before
    taps = layer.conv.weight.detach().view(stride, 2, 3, 2)  # (stride, C_out, C_in, tap)
    oracle.weight.data[..., :stride] = taps[..., 1].permute(2, 1, 0)
    oracle.weight.data[..., stride:] = taps[..., 0].permute(2, 1, 0)
    oracle.bias.data.zero_()
    bias = layer.conv.bias.detach().view(stride, 2).t()  # the layer has one per phase
    x = torch.randn(2, 3, 7, generator=seeded())
    expected = oracle(x)[..., : 7 * stride] + bias.repeat(1, 7)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_transposed_sample_depends_on_its_frame_and_the_one_before(stride: int) -> None:
    layer = transposed(stride)
    x = torch.randn(1, 3, 6, generator=seeded())
    moved = x.clone()
    moved[..., 2] += 1.0
    changed = (layer(moved) != layer(x)).any(dim=1)[0].nonzero().flatten().tolist()
    assert changed == list(range(2 * stride, 4 * stride))


def test_state_belongs_to_the_caller_and_does_not_grow() -> None:
    layers = nn.Sequential(conv(3, 1, 4), CausalConv1d(3, 3, 4, stride=2))
    name_streams(layers)
    stream: Stream = {}
    for _ in range(3):
        layers[1](layers[0](torch.randn(1, 2, 100, generator=seeded()), stream), stream)
    assert {key: value.shape[-1] for key, value in stream.items()} == {"0": 8, "1": 2}
    # a view of the input would keep all of it alive, and change with it
    assert all(value.untyped_storage().nbytes() == value.numel() * 4 for value in stream.values())
    assert not any(value.requires_grad for value in stream.values())


def test_whole_signals_leave_a_stream_alone() -> None:
    layer = conv(3, 1, 1)
    stream: Stream = {}
    layer(torch.randn(1, 2, 5, generator=seeded()), stream)
    before = {key: value.clone() for key, value in stream.items()}
    layer(torch.randn(1, 2, 5, generator=seeded(1)))
    assert all(torch.equal(stream[key], value) for key, value in before.items())


@any_shape
def test_nothing_in_gives_nothing_out(kernel: int, stride: int, dilation: int, history: int) -> None:
    assert conv(kernel, stride, dilation)(torch.zeros(2, 2, 0)).shape == (2, 3, 0)
    assert transposed(stride)(torch.zeros(2, 3, 0)).shape == (2, 2, 0)


def test_starts_with_unit_gain_and_no_bias() -> None:
    torch.manual_seed(0)
    layer = CausalConv1d(32, 64, 5)
    x = torch.randn(1, 32, 2000, generator=seeded())
    assert layer(x)[..., 4:].std().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.conv.bias, torch.zeros(64))


def test_length_off_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="length 11 is not a multiple of stride 2; pad it"):
        conv(4, 2, 1)(torch.zeros(1, 2, 11))


def test_kernel_with_gaps_between_windows_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel 3 does not cover stride 4; use a kernel of at least 4"):
        CausalConv1d(1, 1, 3, stride=4)


GROUPED = [
    (3, 1, 1, 1),
    (4, 2, 1, 1),
    (10, 5, 1, 1),
    (3, 1, 4, 1),
    (1, 1, 1, 1),
    (5, 2, 3, 1),
    (7, 1, 1, 4),
    (3, 1, 2, 4),
]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "groups"), GROUPED)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_torchs_convolution(
    kernel: int, stride: int, dilation: int, groups: int, bias: bool
) -> None:
    layer = CausalConv1d(4, 4, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias).double()
    x = torch.randn(3, 4, 12 * stride, dtype=torch.float64, generator=seeded(), requires_grad=True)
    upstream = torch.randn(3, 4, 12, dtype=torch.float64, generator=seeded(1))
    wanted = (x, *layer.parameters())
    ours = torch.autograd.grad((layer(x) * upstream).sum(), wanted)
    expected = F.conv1d(
        F.pad(x, (layer.history, 0)),
        layer.conv.weight,
        layer.conv.bias,
        stride=stride,
        dilation=dilation,
        groups=groups,
    )
    torch.testing.assert_close(layer(x), expected)
    for grad, other in zip(ours, torch.autograd.grad((expected * upstream).sum(), wanted), strict=True):
        torch.testing.assert_close(grad, other)


def test_the_kernel_lies_in_memory_as_products_want_it_and_stays_so() -> None:
    """A kernel laid out otherwise would be copied in every call."""
    layer = CausalConv1d(4, 6, 3)

    def is_laid_out(conv: nn.Conv1d) -> bool:
        return conv.weight.permute(2, 1, 0).is_contiguous()

    assert is_laid_out(layer.conv)
    layer.load_state_dict({key: value.contiguous() for key, value in layer.state_dict().items()})
    assert is_laid_out(layer.conv)
    assert is_laid_out(copy.deepcopy(layer).conv)
    assert is_laid_out(pickle.loads(pickle.dumps(layer)).conv)
    assert is_laid_out(layer.double().conv)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.randn(1, 4, 5, dtype=torch.float64)).sum().backward()
    optimizer.step()
    assert is_laid_out(layer.conv)


@pytest.mark.parametrize("device_type", ["cpu", "meta"])
def test_other_devices_take_torchs_convolution(device_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = conv(3, 1, 1).to(device_type)
    called = []
    monkeypatch.setattr(layer.conv, "forward", lambda x: called.append(x.shape) or x.new_zeros(2, 3, x.shape[-1] - 2))
    assert layer(torch.zeros(2, 2, 7, device=device_type)).shape == (2, 3, 7)
    assert bool(called) == (device_type != "cpu")


@pytest.mark.slow
def test_compiled_layers_compute_and_learn_the_same() -> None:
    """torch.compile would trace through products of our own, and get their gradients wrong."""

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.snake = CausalConv1d(1, 4, 8, stride=4), Snake(4)
            self.dilated, self.depthwise = CausalConv1d(4, 4, 3, dilation=3), CausalConv1d(4, 4, 7, groups=4)
            self.up = CausalConvTranspose1d(4, 1, stride=4)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(self.depthwise(self.dilated(self.snake(self.down(x)))))

    plain = Layers()
    compiled = copy.deepcopy(plain)
    compiled.compile()
    x = torch.randn(2, 1, 64)
    outputs = [layers(x) for layers in (plain, compiled)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
