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
"""

import torch
from torch import Tensor, nn

Stream = dict[str, Tensor]


def name_streams(root: nn.Module) -> None:
    """Give every layer with memory below `root` its path as the key of its state in a stream dictionary."""
    for name, module in root.named_modules():
        if isinstance(module, (CausalConv1d, CausalConvTranspose1d)):
            module.stream_key = name


def _with_history(x: Tensor, *, history: int, key: str, stream: Stream | None) -> Tensor:
    """(B, C, T) -> (B, C, history + T): the remembered past in front, zeros at the start of time."""
    if history == 0:
        return x
    past = None if stream is None else stream.get(key)
    if past is None:
        past = x.new_zeros(x.shape[0], x.shape[1], history)
    x = torch.cat([past, x], dim=-1)
    if stream is not None:
        # cloned, or the slice would keep the whole input alive
        stream[key] = x[..., x.shape[-1] - history :].detach().clone()
    return x


def _keep_variance(conv: nn.Conv1d) -> None:
    """Start with unit gain and no bias. PyTorch's own start shrinks the signal by 0.58 a layer and adds random biases:
    speech at its usual -25 dBFS then drowns in them, and a codec spends its first thousand steps finding its input."""
    fan_in = conv.in_channels // conv.groups * conv.kernel_size[0]
    nn.init.normal_(conv.weight, std=fan_in**-0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class CausalConv1d(nn.Module):
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
        _keep_variance(self.conv)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if x.shape[-1] % self.stride:
            raise ValueError(f"length {x.shape[-1]} is not a multiple of stride {self.stride}; pad it, as Codec does")
        if x.shape[-1] == 0:  # nothing has passed, and a convolution refuses less than its kernel
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        out: Tensor = self.conv(_with_history(x, history=self.history, key=self.stream_key, stream=stream))
        return out


class CausalConvTranspose1d(nn.Module):
    """(B, C_in, N) -> (B, C_out, N * stride): a transposed convolution of kernel 2 * stride.

    Each output sample then is covered by exactly two input frames, its own and the one before:

        frame        0         1         2
        samples      0 1 2 3   4 5 6 7   8 9 …      (stride 4, kernel 8)
        frame 0      x x x x   x x x x
        frame 1                x x x x   x x …

    which is a two-tap convolution to stride * C_out channels and a reshape: no overlap to add, and the stream state is
    one frame. Even overlap leaves no checkerboard.
    """

    history = 1

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, bias: bool = True) -> None:
        super().__init__()
        self.stride = stride
        self.out_channels = out_channels
        self.stream_key = ""
        self.conv = nn.Conv1d(in_channels, stride * out_channels, 2, bias=bias)
        _keep_variance(self.conv)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        if x.shape[-1] == 0:
            return x.new_zeros(x.shape[0], self.out_channels, 0)
        y = self.conv(_with_history(x, history=1, key=self.stream_key, stream=stream))  # (B, stride * C, N)
        B, _, N = y.shape
        y = y.view(B, self.stride, self.out_channels, N).permute(0, 2, 3, 1)  # (B, C, N, stride)
        return y.reshape(B, self.out_channels, N * self.stride)
