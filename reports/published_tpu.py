"""TPU v1 (Jouppi et al., ISCA 2017): its six applications, and the matrix that a larger array runs slower.

The layer shapes of the applications are not published. What is: the number of layers of each kind, of weights, the
batch, and the products per weight byte (Table 1), from which one rule makes all shapes, so that nothing is tuned per
application:

* fully connected layers are equal squares holding the weights; those of LSTM1 are the 600×600 of section 7;
* convolutions are equal, 3×3, as many channels out as in, on a square map; the map is what makes the products per
  weight come out (CNN0: 2888 / 8 = 361 = 19×19); with fully connected layers beside them (CNN1) the map is taken as
  14×14, and the split of the weights between the two kinds makes the products come out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from accelsim.config import Accelerator, build_accelerator, load_accelerator
from accelsim.program import Program
from accelsim.result import Result
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from reports.published_point import Point

PRESET = "tpu-v1-256x256"
TILE = 256
KERNEL = 3
CNN1_MAP = 14
LSTM1_SIDE = 600
CHAIN = 9

TABLE_3 = "Jouppi et al., ISCA 2017, Table 3 (layers, weights and batch: Table 1)"
SECTION_7 = "Jouppi et al., ISCA 2017, section 7 (batch: Table 1)"

ASSUMPTIONS = (
    "layer shapes are ours (module reports.published_tpu): equal layers that hold the published number of weights",
    "numbers of layers and weights, batches and the bandwidth of 34 GB/s are recalled from the paper, not re-read",
    "weights lie in DRAM as whole 256x256 tiles, channels filled up with zeros; products with zeros are not useful",
    "8-bit weights and activations, 32-bit sums; activations stay in the 24 MiB buffer",
    "network inputs and outputs share the weights' DRAM channel (the TPU's host link is another)",
    "element-wise, pooling and recurrent gate operations are left out: published cycles without matrix work are 10 to "
    "32 %, in the model only the requantizer's",
    "the published counters overlap; the model charges a cycle to DRAM first, and to shifting what of a fold's load is "
    "not hidden behind streaming",
    "the input of a first convolution passes through in tiles and is fetched anew for every tile along k",
)


@dataclass(frozen=True)
class Application:
    """One row of the paper's Tables 1 and 3.

    Parameters
    ----------
    name
        As there.
    dense, conv
        Number of fully connected and of convolutional layers.
    weights
        All of them.
    intensity, batch
        Multiply-accumulates per weight byte, and samples.
    useful, stalled, shifted, other
        Published shares in %: useful products of the peak; cycles waiting for weights, cycles shifting them in, cycles
        without matrix work.
    tops
        Published 10**12 operations a second.
    """

    name: str
    dense: int
    conv: int
    weights: float
    intensity: float
    batch: int
    useful: float
    stalled: float
    shifted: float
    other: float
    tops: float


APPLICATIONS = (
    Application("MLP0", 5, 0, 20e6, 200, 200, 12.5, 53.9, 15.9, 17.5, 12.3),
    Application("MLP1", 4, 0, 5e6, 168, 168, 9.4, 44.2, 13.4, 31.9, 9.7),
    Application("LSTM0", 24, 0, 52e6, 64, 64, 8.2, 58.1, 15.8, 17.9, 3.7),
    Application("LSTM1", 37, 0, 34e6, 96, 96, 6.3, 62.1, 17.1, 10.3, 2.8),
    Application("CNN0", 0, 16, 8e6, 2888, 8, 78.2, 0.0, 0.0, 21.8, 86.0),
    Application("CNN1", 4, 72, 100e6, 1750, 32, 22.5, 28.1, 7.0, 18.7, 14.1),
)


@dataclass(frozen=True)
class Stack:
    """Equal layers one behind the other.

    Parameters
    ----------
    count
        Of layers.
    side
        Channels in and out.
    pixels
        Side of the map; 0 for fully connected layers.
    """

    count: int
    side: int
    pixels: int = 0

    @property
    def products(self) -> int:
        """Useful multiply-accumulates of a sample."""
        window = KERNEL * KERNEL * self.pixels**2 if self.pixels else 1
        return self.count * window * self.side * self.side

    def layers(self) -> list[LayerShape]:
        """Return the layers with channels filled up to whole tiles."""
        side = -(-self.side // TILE) * TILE
        if not self.pixels:
            return [LayerShape(name=f"fc{i}", input=(1, side), outputs=side) for i in range(self.count)]
        shape, kernel, border = (self.pixels, self.pixels, side), (KERNEL, KERNEL), (KERNEL // 2,) * 4
        return [
            LayerShape(name=f"conv{i}", input=shape, outputs=side, kernel=kernel, padding=border)
            for i in range(self.count)
        ]


def stacks(app: Application) -> list[Stack]:
    """Return the layers that an application is taken to have; see the module."""
    if app.name == "LSTM1":
        return [Stack(round(app.weights / LSTM1_SIDE**2), LSTM1_SIDE)]
    per_weight = app.intensity / app.batch
    if not app.conv:
        return [Stack(app.dense, round(sqrt(app.weights / app.dense)))]
    pixels = CNN1_MAP if app.dense else round(sqrt(per_weight))
    conv_share = 1.0 if not app.dense else (per_weight - 1) / (pixels**2 - 1)
    conv = Stack(app.conv, round(sqrt(conv_share * app.weights / app.conv) / KERNEL), pixels)
    if not app.dense:
        return [conv]
    return [conv, Stack(app.dense, round(sqrt((1 - conv_share) * app.weights / app.dense)))]


def applications() -> list[Point]:
    """Return useful share, weight stall, weight shift and throughput of the six applications."""
    accelerator = load_accelerator(PRESET)
    return [point for app in APPLICATIONS for point in _points(app, accelerator)]


def _points(app: Application, accelerator: Accelerator) -> list[Point]:
    parts = stacks(app)
    results = [
        simulate(shape_program(app.name, part.layers(), chained=True), accelerator, batch=app.batch) for part in parts
    ]
    cycles = sum(result.cycles for result in results)
    useful = app.batch * sum(part.products for part in parts)
    peak = accelerator.array.rows * accelerator.array.cols

    def share(of: Callable[[Result], int]) -> float:
        return 100 * sum(of(result) for result in results) / cycles

    stalled, shifted = share(lambda r: r.stall_cycles["dram"]), share(lambda r: r.stall_cycles["weight_load"])
    waits = 100 * (stalled + shifted) / (100 - share(lambda r: r.stall_cycles["vector"]))
    seconds = cycles / (accelerator.clock_mhz * 1e6)
    figures = (
        ("useful products of the peak", "%", app.useful, 100 * useful / (cycles * peak)),
        ("cycles waiting for weights", "%", app.stalled, stalled),
        ("cycles shifting weights in", "%", app.shifted, shifted),
        ("both, of cycles with matrix work", "%", 100 * (app.stalled + app.shifted) / (100 - app.other), waits),
        ("10^12 operations a second", "TOPS", app.tops, 2 * useful / seconds / 1e12),
    )
    return [
        Point(
            name=f"{app.name}: {what}",
            unit=unit,
            published=published,
            model=model,
            source=TABLE_3,
            status="V",
            assumptions=(*ASSUMPTIONS, _shapes(app, parts)),
        )
        for what, unit, published, model in figures
    ]


def _shapes(app: Application, parts: list[Stack]) -> str:
    texts = [
        f"{part.count} of {KERNEL}x{KERNEL}x{part.side}x{part.side} on {part.pixels}x{part.pixels}"
        if part.pixels
        else f"{part.count} of {part.side}x{part.side}"
        for part in parts
    ]
    return f"{app.name}: {' and '.join(texts)}, batch {app.batch}"


def fragmentation() -> list[Point]:
    """Return steps and time of a 600×600 matrix on the array and on one with four times the PEs."""
    points = []
    for rows, steps, micros in ((256, 9, 18.0), (512, 4, 32.0)):
        accelerator = scaled_tpu(rows)
        side = -(-LSTM1_SIDE // rows) * rows
        one, chain = (simulate(_matrices(side, count), accelerator, batch=96) for count in (1, CHAIN))
        micros_of_one = 1e6 * (chain.seconds - one.seconds) / (CHAIN - 1)
        for what, unit, published, model in (
            ("tiles", "tiles", steps, float(one.folds)),
            ("time", "us", micros, micros_of_one),
        ):
            points.append(
                Point(
                    name=f"600x600 on {rows}x{rows}: {what}",
                    unit=unit,
                    published=published,
                    model=model,
                    source=SECTION_7,
                    status="V",
                    assumptions=(
                        "weights lie in DRAM as whole tiles of the array, filled up with zeros",
                        "batch 96; the larger array has the same DRAM and clock, and four times the weight buffer",
                        f"the time is what one more matrix adds to a chain of them ({CHAIN} less 1)",
                    ),
                )
            )
    return points


def _matrices(side: int, count: int) -> Program:
    layers = [LayerShape(name=f"matrix{i}", input=(1, side), outputs=side) for i in range(count)]
    return shape_program("LSTM1", layers, chained=True)


def scaled_tpu(side: int) -> Accelerator:
    """Return the TPU preset with a square array of another size, its weight FIFO and ports grown along."""
    plain = load_accelerator(PRESET).model_dump()
    factor = side // TILE
    plain["array"] |= {"rows": side, "cols": side}
    plain["weight_sram"] |= {"bytes": plain["weight_sram"]["bytes"] * factor**2, "banks": factor}
    plain["activation_sram"]["banks"] *= factor
    plain["accumulator_sram"]["banks"] = factor
    return build_accelerator(plain | {"name": f"tpu-v1-{side}x{side}"}, PRESET)
