"""Small networks that between them use every operation of the float graph, with their inputs."""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.capture import capture
from quant.graph import Graph


class Fn(nn.Module):
    """A module around one function, with modules of its own to call."""

    def __init__(self, function: Callable[..., object], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args: Tensor) -> object:
        return self.function(self, *args)


class Block(nn.Module):
    """CIFAR residual block: option A shortcut (strided slice and zero channels), in-place activations."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
        self.act, self.pad = nn.ReLU(inplace=True), (outs - ins) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad), "constant", 0)
        y += x
        return F.relu(y)


class ResNet(nn.Module):
    """Two blocks and a head that reads its sizes from the tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.stem(x))
        x = F.avg_pool2d(x, x.size()[3])
        return self.fc(x.view(x.size(0), -1))


class Norm(nn.Module):
    """Root-mean-square norm as language models spell it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def rotated_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(3)


class Llama(nn.Module):
    """One layer with rotary positions, shared key and value heads, gated feed-forward and tied embedding."""

    def __init__(self, pairs: bool = False) -> None:
        super().__init__()
        self.emb, self.norm, self.pairs = nn.Embedding(13, 32), Norm(32), pairs
        self.q, self.k, self.v = (nn.Linear(32, n, bias=False) for n in (32, 16, 16))
        self.o, self.up, self.gate, self.down = nn.Linear(32, 32), *(nn.Linear(32, 32) for _ in range(3))
        self.head = nn.Linear(32, 13, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        batch, time, width = x.shape
        angle = torch.arange(time)[:, None] * 100.0 ** (-torch.arange(0, 8, 2) / 8)
        angle = angle if self.pairs else torch.cat((angle, angle), -1)
        turn = rotated_pairs if self.pairs else rotated
        y = self.norm(x)
        q, k, v = (f(y).view(batch, time, -1, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        q, k = turn(q, angle.cos(), angle.sin()), turn(k, angle.cos(), angle.sin())
        k, v = (t[:, :, None].expand(batch, 2, 2, time, 8).reshape(batch, 4, time, 8) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, time, width)
        x = x + self.o(y)
        return self.head(x + self.down(F.silu(self.gate(x)) * self.up(x)))


class Eager(nn.Module):
    """Attention written out, with a mask made on the fly, and hand-written functions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.positions = nn.Linear(16, 48), nn.Parameter(torch.randn(1, 7, 16))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        x = x + self.positions[:, :time]
        q, k, v = (t.view(batch, time, 2, 8).transpose(1, 2) for t in self.qkv(x).split(width, dim=2))
        scores = (q @ k.transpose(-2, -1) / 8**0.5).masked_fill(torch.ones(time, time).tril() == 0, float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, width)
        y = y + 0.5 * y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3)))
        y = y + y * 0.5 * (1.0 + torch.erf(y / 2**0.5))
        return y * torch.sigmoid(y) + y * F.relu6(y + 3) / 6


def attend(self: nn.Module, x: Tensor) -> Tensor:
    mask = torch.full((6, 6), float("-inf")).triu(1)
    return x + self.mha(x, x, x, need_weights=False, attn_mask=mask, is_causal=True)[0]  # type: ignore[operator]


def masked(self: nn.Module, x: Tensor) -> Tensor:
    q = self.q(x).unflatten(2, (2, 4)).transpose(1, 2)  # type: ignore[operator]
    near = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    bias = torch.where(near < 3, -0.5 * near, float("-inf"))[None] * torch.tensor([1.0, 2.0])[:, None, None]
    return F.scaled_dot_product_attention(q, q, q, attn_mask=bias, scale=0.3).transpose(1, 2).flatten(2)


def excite(self: nn.Module, x: Tensor) -> Tensor:
    s = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))  # type: ignore[operator]
    return x * s[:, :, None, None]


def elementwise(self: nn.Module, x: Tensor) -> Tensor:
    parts = [F.leaky_relu(x, 0.1), F.elu(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.silu(x), F.hardswish(x),
             F.hardsigmoid(x), torch.tanh(x), F.relu6(x), x.clamp(-0.5, 0.7), x.clamp(min=0), F.mish(x), F.softplus(x),
             x.exp(), x.abs().sqrt(), torch.erf(x), (x.abs() + 1).log(), (x * x + 1).rsqrt(), -x,
             1 / (x.abs() + 1)]  # fmt: skip
    return torch.cat(parts, 1)


def arithmetic(self: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    z = torch.sub(2 * x, y, alpha=0.5) / 3 + 1 - torch.arange(4.0).view(4, 1, 1) * x
    return torch.rsub(z, 1.5) + x.transpose(2, 3) * torch.linspace(0, 1, 36).view(6, 6) - y.mean(1, keepdim=True)


def pools(self: nn.Module, x: Tensor) -> Tensor:
    a = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    b = F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)
    return torch.cat((a, b), 1).flatten(1), F.adaptive_avg_pool2d(x, (2, 1)), F.max_pool2d(x, 2, dilation=2)  # type: ignore[return-value]


def parts(self: nn.Module, x: Tensor) -> Tensor:
    a, b, c = x.chunk(3, 1)
    d = torch.stack((a, b), 2).flatten(1, 2) + c.repeat(1, 2, 1, 1).flip(1).roll((1, -2), (2, 3))
    e = x.view(-1, 3, 2, 6, 6).transpose(1, 2).flatten(1, 2)[:, [5, 0, 1]]
    f = F.pad(x, (1, 2, -1, 0), value=0.5).sum(3)
    return d[:, 1:, ::2, 1], e.permute(0, 2, 3, 1).select(1, 2).unsqueeze(1), f.repeat_interleave(2, 1)  # type: ignore[return-value]


def both_ways(self: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    out, (state, _) = self.lstm(x.transpose(0, 1))  # type: ignore[operator]
    return out.transpose(0, 1), state.transpose(0, 1)


def class_token(self: nn.Module, x: Tensor) -> Tensor:
    return torch.cat((torch.ones(1, 1, 8).expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)), 1)


def functions(self: nn.Module, x: Tensor) -> Tensor:
    y = F.selu(x) + F.celu(x, 0.5) + F.softplus(x, 2.0) + F.logsigmoid(x) + F.rrelu(x) + F.elu(x, 0.3)
    y = y + F.softshrink(x, 0.3) + F.hardshrink(x, 0.4) + F.threshold(x, 0.1, 0.7) + torch.log1p(x.abs())
    return y + torch.sin(x) + torch.cos(x) + torch.expm1(x) + (x.abs() + 0.1) ** 1.5 + x**4


def resized(self: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    sizes = [F.interpolate(x, size=(9, 4), mode=mode) for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")]
    return (*sizes, F.interpolate(x, scale_factor=1.7, mode="bilinear", align_corners=True),
            F.interpolate(x.flatten(2), scale_factor=2, mode="linear"), F.interpolate(x, scale_factor=1.5))  # fmt: skip


def pooled(self: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    return (F.adaptive_avg_pool2d(x, (4, 7)), F.adaptive_max_pool2d(x, 4), F.adaptive_avg_pool2d(x, (9, 3)),
            F.adaptive_max_pool1d(x.flatten(2), 5), F.avg_pool2d(x, 3, 2, 1, ceil_mode=True))  # fmt: skip


def largest(self: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    found, _ = x.view(-1, 2, 2, 6, 6).max(2)
    return torch.maximum(x, y), torch.minimum(x, y), x.amax((2, 3)), x.amin(1, keepdim=True), found, y.clamp_max(0.2)


def spelled(self: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    y = F.pixel_shuffle(x, 2) + F.pixel_unshuffle(F.pad(x, (6, 0, 6, 0), "circular"), 2)[:, :1].repeat(1, 1, 2, 2)
    z = F.pad(x, (1, 2, 2, 1), "reflect") + F.pad(x, (1, 2, 2, 1), "replicate")
    return y, z, torch.einsum("nchw,ndhw->ncd", x, x), F.glu(x, 1), F.unfold(x, 2, stride=2), F.log_softmax(x, 1)


def by_hand(self: nn.Module, x: Tensor) -> Tensor:
    d = x - x.mean(1, keepdim=True)
    return d / torch.sqrt(((x - x.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True) + 1e-5)


def lengths(self: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    y = self.qk(x).view(-1, 5, 2, 4).transpose(1, 2)  # type: ignore[operator]
    return F.normalize(y, dim=-1), x / x.norm(dim=-1, keepdim=True), x.var(-1), x.std(-1, correction=0)


def in_windows(self: nn.Module, x: Tensor) -> Tensor:
    """Attention inside windows that stand beside the batch, with a bias of its own for every window."""
    q, k, v = (x.view(-1, 3, 4, 2, 4).flatten(0, 1).transpose(1, 2) * f for f in (1.0, 0.5, 2.0))
    bias = torch.linspace(-1, 1, 3 * 4 * 4).view(1, 3, 1, 4, 4).expand(len(x), -1, 2, -1, -1).flatten(0, 1)
    return F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).reshape(-1, 12, 8)


def convs(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def image(channels: int = 4, size: int = 6) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, channels, size, size)


def tokens(*shape: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, *shape)


def ids(time: int, top: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randint(0, top, (batch, time))


NETS: dict[str, tuple[Callable[[], nn.Module], list[Callable[[int], Tensor]], str]] = {
    "resnet": (ResNet, [image(3, 8)], "conv*5 batch_norm*4 relu*4 add*2 slice pad avg_pool flatten linear"),
    "mobile": (
        lambda: convs(nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.ReLU6(), nn.Conv2d(4, 9, 1), nn.PReLU(9),
                      nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(9, 6, (3, 2), dilation=(1, 2), groups=3), nn.Hardswish()),
        [image(4, 12)], "conv*3 relu6 prelu hardswish",
    ),
    "same padding": (lambda: convs(nn.Conv2d(4, 3, (2, 4), padding="same")), [image()], "conv"),
    "sequence": (
        lambda: convs(nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6), nn.MaxPool1d(2), nn.AvgPool1d(2), nn.Flatten()),
        [tokens(4, 20)], "conv batch_norm max_pool avg_pool flatten",
    ),
    "excite": (lambda: Fn(excite, down=nn.Linear(4, 2), up=nn.Linear(2, 4)), [image()],
               "avg_pool flatten linear*2 relu sigmoid reshape mul"),
    "elementwise": (lambda: Fn(elementwise), [image()], ""),
    "arithmetic": (lambda: Fn(arithmetic), [image(), image()], ""),
    "pools": (lambda: Fn(pools), [image(4, 8)], ""),
    "parts": (lambda: Fn(parts), [image(6, 6)], ""),
    "lstm": (
        lambda: Fn(lambda s, x: s.lstm(s.emb(x))[0][:, -1],
                   emb=nn.Embedding(9, 6), lstm=nn.LSTM(6, 5, 2, batch_first=True)),
        [ids(7, 9)], "embedding lstm*2 slice flatten",
    ),
    "lstm both ways, time first": (
        lambda: Fn(both_ways, lstm=nn.LSTM(6, 5, bidirectional=True)),
        [tokens(7, 6)], "",
    ),
    "mha": (lambda: Fn(attend, mha=nn.MultiheadAttention(16, 4, batch_first=True)), [tokens(6, 16)],
            "linear*2 slice*3 reshape*4 permute*4 attention add"),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, activation="gelu", batch_first=True), 2,
                                      enable_nested_tensor=False), [tokens(6, 16)], "",
    ),
    "mask and bias": (lambda: Fn(masked, q=nn.Linear(8, 8)), [tokens(6, 8)], ""),
    "llama": (Llama, [ids(6, 13)], "embedding rms_norm linear*8 reshape*4 permute*4 rotary*2 attention add*2 silu mul"),
    "llama with pairs": (lambda: Llama(pairs=True), [ids(6, 13)], ""),
    "eager attention": (Eager, [tokens(7, 16)],
                        "constant add*4 linear slice*3 reshape*4 permute*4 attention gelu*2 silu hardswish"),
    "norms": (
        lambda: Fn(lambda s, x: s.rms(s.ln(x)).softmax(1) + F.layer_norm(x, (5, 8)),
                   ln=nn.LayerNorm(8), rms=nn.RMSNorm(8, eps=1e-6)),
        [tokens(5, 8)], "layer_norm*2 rms_norm softmax add",
    ),
    "products": (lambda: Fn(lambda s, x, y: (x @ y.mT, torch.bmm(y, x.mT).mean(1), x @ torch.eye(8))),
                 [tokens(5, 8), tokens(3, 8)], ""),
    "transposed convolutions": (
        lambda: convs(nn.Conv2d(4, 6, 1), nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                      nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2, dilation=2), nn.PReLU(4),
                      nn.ConvTranspose2d(4, 2, (2, 3), (2, 1))),
        [image()], "conv*4 batch_norm relu reshape*6 permute*3 slice*2 prelu",
    ),
    "transposed convolution of time": (
        lambda: convs(nn.ConvTranspose1d(4, 3, 5, 3, 7, 2), nn.Sigmoid()), [tokens(4, 9)],
        "conv reshape*2 permute slice sigmoid",
    ),
    "more functions": (lambda: Fn(functions), [image()], ""),
    "resized": (lambda: Fn(resized), [image()], ""),
    "pooled": (lambda: Fn(pooled), [image()], ""),
    "largest": (lambda: Fn(largest), [image(), image()], ""),
    "spelled out": (lambda: Fn(spelled), [image()], ""),
    "group norms": (
        lambda: convs(nn.GroupNorm(2, 4), nn.GroupNorm(1, 4), nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4)),
        [image()], "layer_norm*4 reshape*8 affine*2",
    ),
    "norm by hand": (lambda: Fn(by_hand), [image()], "permute*2 layer_norm"),
    "lengths": (lambda: Fn(lengths, qk=nn.Linear(8, 8)), [tokens(5, 8)], ""),
    "windows": (lambda: Fn(in_windows), [tokens(12, 8)], ""),
    "gru": (
        lambda: Fn(lambda s, x: s.gru(x)[0], gru=nn.GRU(6, 5, 2, batch_first=True, bidirectional=True)),
        [tokens(3, 6)], "",
    ),
    "class token": (
        lambda: Fn(class_token),
        [image(8, 2)], "reshape permute constant concat",
    ),
}  # fmt: skip


@functools.cache
def captured(name: str) -> tuple[nn.Module, Graph, list[Callable[[int], Tensor]]]:
    torch.manual_seed(3)
    make, inputs, _ = NETS[name]
    module = make().eval()
    for m in module.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, 0, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(m.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(m.weight, 1, 0.2)
    return module, capture(module, [f(2) for f in inputs], name), inputs
