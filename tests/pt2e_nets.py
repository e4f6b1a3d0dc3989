"""Small torch modules with quantize and dequantize pairs, as torch's and torchao's convert_pt2e leave them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn

OPS = torch.ops.quantized_decomposed
LIMITS = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-(2**15), 2**15 - 1)}


def grid(x: Tensor, scale: float, zero: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    """Put a tensor onto a grid and take it off again."""
    codes = OPS.quantize_per_tensor(x, scale, zero, *LIMITS[dtype], dtype)
    return OPS.dequantize_per_tensor(codes, scale, zero, *LIMITS[dtype], dtype)


class Layer(nn.Module):
    """A convolution or linear layer with stored int8 weights.

    Parameters
    ----------
    shape
        Of the weights.
    per_channel
        Whether every output channel has its own scale.
    dyadic
        Whether scales are powers of two and biases lie on the grid of the sums.
    input_scale
        Of the layer's input, to put the bias on the grid of sums.
    bias, options
        Whether there is a bias; of the convolution.
    """

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, ...], *, per_channel: bool, dyadic: bool,
        input_scale: float, bias: bool = True, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        count = shape[0] if per_channel else 1
        fan = np.prod(shape[1:])
        scales = 1 / 40 / np.sqrt(fan) * rng.uniform(0.5, 1, count)
        scales = 2.0 ** np.round(np.log2(scales)) if dyadic else scales
        self.register_buffer("codes", torch.from_numpy(rng.integers(-127, 128, shape).astype(np.int8)))
        self.register_buffer("scales", torch.from_numpy(scales.astype(np.float32)))
        self.scale = float(scales[0].astype(np.float32))
        self.register_buffer("zeros", torch.zeros(count, dtype=torch.int64))
        steps = rng.integers(-3000, 3000, shape[0]) * scales * input_scale
        real = steps if dyadic else rng.normal(0, 0.3, shape[0])
        self.bias = nn.Parameter(torch.from_numpy(real.astype(np.float32)), requires_grad=False) if bias else None
        self.options, self.is_conv = options, len(shape) > 2

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer of float32 values."""
        if len(self.scales) > 1:
            parts = (self.codes, self.scales, self.zeros, 0, -127, 127, torch.int8)
            weight = OPS.dequantize_per_channel(*parts)
        else:
            weight = OPS.dequantize_per_tensor(self.codes, self.scale, 0, -127, 127, torch.int8)
        if self.is_conv:
            return nn.functional.conv2d(x, weight, self.bias, **self.options)
        return nn.functional.linear(x, weight, self.bias)


class Net(nn.Module):
    """A residual network: two convolutions, an add, pools, a linear layer.

    Parameters
    ----------
    join
        ``codes``: both operands of the add are quantized; ``sums``: the layer's float sums are added as they are, as
        fused patterns leave them.
    """

    def __init__(
        self, seed: int, *, dtype: torch.dtype = torch.uint8, per_channel: bool = False, dyadic: bool = False,
        join: str = "codes",
    ) -> None:  # fmt: skip
        super().__init__()
        rng = np.random.default_rng(seed)
        self.dtype, self.join = dtype, join

        def scale(near: float) -> float:
            return float(2.0 ** np.round(np.log2(near))) if dyadic else near * rng.uniform(0.8, 1.2)

        low, high = LIMITS[dtype]
        self.scales = [scale(s) for s in (0.03, 0.02, 0.03, 0.03, 0.02, 0.02)]
        self.zeros = [int(z) for z in rng.integers(low + 90, high - 90, 6)]
        self.zeros[1] = self.zeros[3] = low  # behind a relu
        options = {"per_channel": per_channel, "dyadic": dyadic}
        s = self.scales
        self.first = Layer(rng, (6, 3, 3, 3), input_scale=s[0], padding=1, **options)
        self.second = Layer(rng, (6, 6, 3, 3), input_scale=s[1], padding=1, bias=join == "codes", **options)
        self.down = Layer(rng, (6, 2, 3, 3), input_scale=s[3], stride=2, groups=3, **options)
        self.last = Layer(rng, (5, 6), input_scale=s[5], **options)

    def put(self, x: Tensor, place: int) -> Tensor:
        """Put a tensor onto one of the network's grids."""
        return grid(x, self.scales[place], self.zeros[place], self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network computes."""
        x = self.put(torch.relu(self.first(self.put(x, 0))), 1)
        y = self.second(x)
        y = self.put(y, 2) if self.join == "codes" else y
        x = self.put(torch.relu(y + x), 3)
        x = self.put(nn.functional.max_pool2d(x, 2), 3)
        x = self.put(nn.functional.hardtanh(self.down(x), -2.0, 2.0), 4)
        x = self.put(nn.functional.avg_pool2d(x, 2, 1), 5)
        x = self.put(nn.functional.adaptive_avg_pool2d(x, 1), 5)
        return self.last(torch.flatten(x, 1))


class Steps(nn.Module):
    """One operation between two grids."""

    def __init__(self, step: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.int8) -> None:
        super().__init__()
        self.step, self.dtype = step, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return what the step makes of the quantized input."""
        return grid(
            self.step(grid(x, 0.0313, 5, self.dtype)), 0.02717, -7 if self.dtype == torch.int8 else 90, self.dtype
        )
