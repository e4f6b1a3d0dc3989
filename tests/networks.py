"""Programs without values for tests of cost: whole networks by their shapes."""

from dataclasses import dataclass, field

import numpy as np

from accelsim.arith import code_range
from accelsim.program import Add, AvgPool, Blank, Conv, Duplicate, MatMul, MaxPool, Op, Program, Requantize, Tensor

Shape = tuple[int, ...]


@dataclass
class Shapes:
    """Builds a Program op by op."""

    weight_bits: int = 8
    act_bits: int = 8
    first_last_bits: int | None = None
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)

    def tensor(self, name: str, shape: Shape, bits: int, kind: str = "code") -> str:
        signed = kind == "accumulator"
        low, high = code_range(bits, signed)
        self.tensors[name] = Tensor(name=name, shape=shape, bits=bits, signed=signed, low=low, high=high, kind=kind)
        return name

    @staticmethod
    def top(bits: int) -> int:
        return (1 << bits) - 1

    def input(self, shape: Shape) -> str:
        return self.tensor("input", shape, 8)

    def conv(
        self, name: str, x: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, splits: int = 0
    ) -> str:
        *lead, channels = self.tensors[x].shape
        if splits:
            x = self.duplicate(f"{name}.duplicate", x, splits)
            channels += splits
        pad = kernel // 2 if len(lead) == 2 else 0
        shape = tuple((size + 2 * pad - kernel) // stride + 1 for size in lead) if len(lead) == 2 else tuple(lead)
        bits = self.first_last_bits or self.weight_bits
        bits = bits if not self.ops or name == "fc" else self.weight_bits
        acc = self.tensor(f"{name}.acc", (*shape, out), 32, "accumulator")
        self.ops.append(
            Conv(
                name=name, inputs=(x,), output=acc, weight=Blank((out, kernel, kernel, channels // groups)),
                bias=Blank((out,)), bound=Blank((out,)), weight_bits=bits, storage_bits=bits,
                stride=(stride, stride), padding=(pad,) * 4, groups=groups,
            )
        )  # fmt: skip
        return self.requantize(name, acc)

    def matmul(self, name: str, first: str, second: str, transpose: bool) -> str:
        left, right = self.tensors[first].shape, self.tensors[second].shape
        shape = (*left[:-1], right[-2] if transpose else right[-1])
        acc = self.tensor(f"{name}.acc", shape, 32, "accumulator")
        self.ops.append(MatMul(name=name, inputs=(first, second), output=acc, transpose=transpose, bound=1))
        return self.requantize(name, acc)

    def requantize(self, name: str, acc: str) -> str:
        shape = self.tensors[acc].shape
        out = self.tensor(f"{name}.out", shape, self.act_bits)
        self.ops.append(
            Requantize(
                name=f"{name}.requantize",
                inputs=(acc,),
                output=out,
                multiplier=np.ones(shape[-1]),
                low=0,
                high=self.top(self.act_bits),
            )
        )
        return out

    def duplicate(self, name: str, x: str, splits: int) -> str:
        source = self.tensors[x]
        channels = source.shape[-1]
        index = np.concatenate([np.arange(channels), np.arange(splits) % channels])
        out = self.tensor(f"{name}.out", (*source.shape[:-1], channels + splits), source.bits)
        zeros = np.zeros_like(index)
        self.ops.append(
            Duplicate(
                name=name, inputs=(x,), output=out, source=index, offset=zeros, shift=zeros, low=0, high=source.high
            )
        )
        return out

    def add(self, name: str, first: str, second: str) -> str:
        out = self.tensor(f"{name}.out", self.tensors[first].shape, self.act_bits)
        self.ops.append(
            Add(
                name=name, inputs=(first, second), output=out, multipliers=(1.0, 1.0), zero_points=(0, 0), zero_out=0,
                low=0, high=self.top(self.act_bits),
            )
        )  # fmt: skip
        return out

    def max_pool(self, name: str, x: str, kernel: int, stride: int) -> str:
        height, width, channels = self.tensors[x].shape
        pad = kernel // 2
        shape = ((height + 2 * pad - kernel) // stride + 1, (width + 2 * pad - kernel) // stride + 1, channels)
        out = self.tensor(f"{name}.out", shape, self.tensors[x].bits)
        self.ops.append(
            MaxPool(name=name, inputs=(x,), output=out, kernel=(kernel,) * 2, stride=(stride,) * 2, padding=(pad,) * 4)
        )
        return out

    def mean(self, name: str, x: str) -> str:
        height, width, channels = self.tensors[x].shape
        out = self.tensor(f"{name}.out", (1, 1, channels), self.act_bits)
        self.ops.append(
            AvgPool(
                name=name, inputs=(x,), output=out, kernel=(height, width), stride=(1, 1), multiplier=1.0, zero_in=0,
                zero_out=0, low=0, high=self.top(self.act_bits),
            )
        )  # fmt: skip
        return out

    def program(self, name: str) -> Program:
        return Program(
            name=name,
            tensors=dict(self.tensors),
            inputs=("input",),
            outputs=(self.ops[-1].output,),
            ops=tuple(self.ops),
        )


def resnet50(weight_bits: int = 8, act_bits: int = 8, ratio: float = 0.0) -> Program:
    """Return ResNet-50 at 224², 54 products, 8-bit first and last weights; `ratio` of channels duplicated."""
    net = Shapes(weight_bits, act_bits, first_last_bits=8)

    def splits(x: str) -> int:
        return int(np.ceil(ratio * net.tensors[x].shape[-1])) if ratio else 0

    x = net.max_pool("pool", net.conv("stem", net.input((224, 224, 3)), 64, 7, 2), 3, 2)
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = net.conv(f"{name}.conv1", x, width, splits=splits(x))
            y = net.conv(f"{name}.conv2", y, width, 3, stride, splits=splits(y))
            y = net.conv(f"{name}.conv3", y, 4 * width, splits=splits(y))
            side = net.conv(f"{name}.down", x, 4 * width, 1, stride, splits=splits(x)) if not block else x
            x = net.add(f"{name}.add", y, side)
    net.conv("fc", net.mean("mean", x), 1000)
    return net.program("resnet50")


def mobilenet(act_bits: int = 8) -> Program:
    """Return the first blocks of a MobileNetV1 at 96²: depthwise and 1×1 layers."""
    net = Shapes(8, act_bits)
    x = net.conv("stem", net.input((96, 96, 3)), 16, 3, 2)
    for block, (out, stride) in enumerate(((32, 1), (64, 2), (64, 1), (128, 2), (128, 1))):
        x = net.conv(f"dw{block}", x, net.tensors[x].shape[-1], 3, stride, groups=net.tensors[x].shape[-1])
        x = net.conv(f"pw{block}", x, out)
    net.conv("fc", net.mean("mean", x), 10)
    return net.program("mobilenet")


def attention(length: int = 24, heads: int = 4, width: int = 16) -> Program:
    """Return one attention product pair on given heads, with a linear layer in front."""
    net = Shapes()
    x = net.input((heads, length, width))
    y = net.conv("project", x, width)
    scores = net.matmul("scores", y, y, transpose=True)
    net.matmul("mixed", scores, y, transpose=False)
    return net.program("attention")


def mlp(*widths: int, rows: int = 1) -> Program:
    """Return linear layers on `rows` vectors."""
    net = Shapes()
    x = net.input((rows, widths[0]))
    for place, width in enumerate(widths[1:]):
        x = net.conv(f"fc{place}", x, width)
    return net.program("mlp")
