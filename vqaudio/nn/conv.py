"""Causal convolutions with one forward for whole signals and for streams.

A whole signal is a stream whose past is zeros. Every layer that keeps time remembers a fixed number of input frames,
`history`, and nothing else. The memory belongs to the caller: a plain dictionary from layer name to tensor, which can
be copied, stored and resumed. Nothing is hidden in the modules.

    kernel 3, stride 1, history 2             kernel 4, stride 2, history 2
    past | now                                past | now
    . .  | a b c d                            . .  | a b c d
    [. .   a]        -> frame 0               [. .   a b]      -> frame 0
      [.   a b]      -> frame 1                     [a b c d]  -> frame 1
          [a b c]    -> frame 2

Frame n never sees input beyond its own last sample, (n + 1) * stride - 1.

On a CPU a convolution is a sum of matrix products, one for each tap: rows (time) times (C_in, C_out). Shapes stay
(B, C, T), but in memory the channels of a moment lie side by side, which makes the rows of each tap a plain slice, and
a kernel that lies there as (tap, C_in, C_out) is used as it is, where torch's convolutions lay out signal and weights
anew in every call.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqaudio.nn.layer import Layer

Stream = dict[str, Tensor]


def name_streams(root: nn.Module) -> None:
    """Give every layer with memory below `root` its path as the key of its state in a stream dictionary."""
    for name, module in root.named_modules():
        if isinstance(module, (CausalConv1d, CausalConvTranspose1d)):
            module.stream_key = name


def _with_history(x: Tensor, *, history: int, key: str, stream: Stream | None) -> Tensor:
    """(B, C, T) -> rows (B, history + T, C): the remembered past in front, zeros at the start of time."""
    rows = x.transpose(1, 2)
    if history == 0:
        return rows
    past = None if stream is None else stream.get(key)
    if past is None:
        past = x.new_zeros(x.shape[0], history, x.shape[1]).transpose(1, 2)
    rows = torch.cat([past.transpose(1, 2), rows], dim=1)
    if stream is not None:
        # cloned, or the slice would keep the whole input alive
        stream[key] = rows[:, rows.shape[1] - history :].detach().clone().transpose(1, 2)
    return rows


def _start(conv: nn.Conv1d) -> None:
    """Start with unit gain and no bias, the kernel in memory as (tap, C_in, C_out).

    PyTorch's own start shrinks the signal by 0.58 a layer and adds random biases: speech at its usual -25 dBFS then
    drowns in them, and a codec spends its first thousand steps finding its input.
    """
    fan_in = conv.in_channels // conv.groups * conv.kernel_size[0]
    nn.init.normal_(conv.weight, std=fan_in**-0.5)
    conv.weight.data = conv.weight.data.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class CausalConv1d(Layer):
    """(B, C_in, T) -> (B, C_out, T / stride); T must be a multiple of the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.history = (kernel_size - 1) * dilation + 1 - stride
        if self.history < 0:
            raise ValueError(f"kernel {kernel_size} does not cover stride {stride}; use a kernel of at least {stride}")
        self.stride = stride
        self.stream_key = ""
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, bias=bias
        )
        _start(self.conv)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if x.shape[-1] % self.stride:
            raise ValueError(f"length {x.shape[-1]} is not a multiple of stride {self.stride}; pad it, as Codec does")
        if x.shape[-1] == 0:  # nothing has passed, and a convolution refuses less than its kernel
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        return _convolved(self.conv, _with_history(x, history=self.history, key=self.stream_key, stream=stream))


class CausalConvTranspose1d(Layer):
    """(B, C_in, N) -> (B, C_out, N * stride): a transposed convolution of kernel taps * stride, 2 * stride if not said.

    Each output sample then is covered by exactly `taps` input frames, its own and those before:

        frame        0         1         2
        samples      0 1 2 3   4 5 6 7   8 9 …      (stride 4, kernel 8)
        frame 0      x x x x   x x x x
        frame 1                x x x x   x x …

    which is a convolution of as many taps to stride * C_out channels and a reshape: no overlap to add, and the stream
    state is taps - 1 frames. Even overlap leaves no checkerboard.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, taps: int = 2, bias: bool = True) -> None:
        super().__init__()
        self.stride, self.history = stride, taps - 1
        self.out_channels = out_channels
        self.stream_key = ""
        self.conv = nn.Conv1d(in_channels, stride * out_channels, taps, bias=bias)
        _start(self.conv)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if x.shape[-1] == 0:
            return x.new_zeros(x.shape[0], self.out_channels, 0)
        y = _convolved(self.conv, _with_history(x, history=self.history, key=self.stream_key, stream=stream))
        B, _, N = y.shape
        rows = y.transpose(1, 2).reshape(
            B, N * self.stride, self.out_channels
        )  # a frame's channels: its samples' in turn
        return rows.transpose(1, 2)


# ---- convolutions as matrix products


def _convolved(conv: nn.Conv1d, rows: Tensor) -> Tensor:
    """Rows (B, L, C_in), history included -> (B, C_out, N), as `conv` defines it."""
    (kernel,), (stride,), (dilation,) = conv.kernel_size, conv.stride, conv.dilation
    plain = conv.groups == 1 and (
        stride == 1 or (dilation == 1 and kernel % stride == 0 and rows.shape[1] % stride == 0)
    )
    depthwise = conv.groups == conv.in_channels == conv.out_channels and stride == 1
    # torch.compile has its own way with convolutions, and gets the gradients of our products wrong
    if rows.device.type != "cpu" or not (plain or depthwise) or torch.compiler.is_compiling():
        out: Tensor = conv(rows.transpose(1, 2))
        return out
    taps, bias = conv.weight.permute(2, 1, 0), conv.bias  # (kernel, C_in / groups, C_out)
    if torch.is_autocast_enabled("cpu"):  # which does not reach into products of our own
        dtype = torch.get_autocast_dtype("cpu")
        rows, taps, bias = rows.to(dtype), taps.to(dtype), None if bias is None else bias.to(dtype)
    if depthwise:
        return _sum_of_scaled(rows, taps[:, 0], bias, dilation=dilation).transpose(1, 2)
    if stride > 1:  # the samples of a stride side by side, as one row of a wider product
        rows = rows.reshape(rows.shape[0], -1, stride * conv.in_channels)
        taps = taps.reshape(kernel // stride, stride * conv.in_channels, conv.out_channels)
    if torch.is_grad_enabled():
        out = _SumOfProducts.apply(rows, taps, bias, dilation)
    else:
        out = _sum_of_products(rows, taps, bias, dilation)
    return out.transpose(1, 2)


def _sum_of_scaled(rows: Tensor, taps: Tensor, bias: Tensor | None, *, dilation: int) -> Tensor:
    """Each channel by itself: rows (B, L, C), taps (n, C) -> (B, N, C)."""
    n = len(taps)
    N = rows.shape[1] - (n - 1) * dilation
    y = rows[:, :N] * taps[0] if bias is None else torch.addcmul(bias, rows[:, :N], taps[0])
    for tap in range(1, n):
        y = y.addcmul_(rows[:, tap * dilation : tap * dilation + N], taps[tap])
    return y


def _sum_of_products(rows: Tensor, taps: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    """Rows (B, L, C_in), taps (n, C_in, C_out) -> (B, N, C_out), N = L - (n - 1) * dilation.

    The items of a batch go through as one signal; the sums that would mix two of them are computed and left out:

        rows       a a a a a b b b b b        n = 3: L = 5, N = 3
        sums       A A A - - B B B
    """
    B, L, _ = rows.shape
    n, C_in, C_out = taps.shape
    N = L - (n - 1) * dilation
    flat = rows.reshape(B * L, C_in)
    whole = rows.new_empty(B * L, C_out)
    M = B * L - (L - N)
    sums = whole[:M]
    if bias is None:
        torch.mm(flat[:M], taps[0], out=sums)
    else:
        torch.addmm(bias, flat[:M], taps[0], out=sums)
    for tap in range(1, n):
        sums.addmm_(flat[tap * dilation : tap * dilation + M], taps[tap])
    return whole.view(B, L, C_out)[:, :N]


class _SumOfProducts(torch.autograd.Function):
    """`_sum_of_products` with gradients; autograd's own would make a padded copy of its gradient for every tap."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, taps: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
        ctx.save_for_backward(rows, taps)
        ctx.dilation, ctx.has_bias = dilation, bias is not None
        return _sum_of_products(rows, taps, bias, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        rows, taps = ctx.saved_tensors
        (grad,) = grads  # (B, N, C_out)
        B, L, C_in = rows.shape
        N = grad.shape[1]
        flat = rows.reshape(B * L, C_in)
        M = B * L - (L - N)
        sums = F.pad(grad, (0, 0, 0, L - N)).reshape(B * L, -1)[:M]  # zeros where two items would meet
        grad_rows = flat.new_zeros(B * L, C_in) if ctx.needs_input_grad[0] else None
        grad_taps = torch.empty_like(taps) if ctx.needs_input_grad[1] else None  # some are fixed
        for tap in range(len(taps)):
            first = tap * ctx.dilation
            if grad_taps is not None:
                torch.mm(flat[first : first + M].t(), sums, out=grad_taps[tap])
            if grad_rows is not None:
                grad_rows[first : first + M].addmm_(sums, taps[tap].t())
        grad_bias = grad.sum(dim=(0, 1)) if ctx.has_bias else None
        return None if grad_rows is None else grad_rows.view(B, L, C_in), grad_taps, grad_bias, None
