"""Whole machines: areas of published chips beside the presets', and Eyeriss, which is another kind of machine."""

from accelsim.config import load_accelerator
from accelsim.cost import Machine, area_um2
from accelsim.pe import Widths
from accelsim.shapes import LayerShape, shape_program
from accelsim.simulate import simulate
from accelsim.technology import technology
from reports.published_point import Point

MIB = 1 << 20

GEMMINI = "Genc et al., DAC 2021, Fig. 6 (Gemmini, Intel 22FFL, placed)"
TPU_V1 = "Jouppi et al., ISCA 2017, Fig. 2: buffer 29 %, matrix unit 24 % of at most 331 mm2"
TPU_V4I = "Jouppi et al., ISCA 2021 (TPUv4i): 128 MB CMEM"
NVDLA = "NVDLA primer (nvdla/doc 31f5740): area over MACs and buffer of seven configurations"
EYERISS = "Chen et al., JSSC 2017 (measured at 1 V, AlexNet, batch 4)"

SRAM_LINE = "SRAM area by the straight line through silicon, um2 per bit in proportion to the node"


def areas() -> list[Point]:
    """Return areas of arrays and memories."""
    gemmini, tpu = _areas("gemmini-16x16"), _areas("tpu-v1-256x256")
    at_7, at_28 = technology("google", 7), technology("google", 28)
    placed = "PEs: 45 nm synthesis, the node's area factor, and kappa_area 3.05 (fitted to Gemmini's array)"
    return [
        Point(
            name="Gemmini: 16x16 array of INT8 PEs",
            unit="um2",
            published=116000.0,
            model=256 * technology("google", 22).pe_area_um2(8, 8, 32),
            source=GEMMINI,
            status="S",
            assumptions=(placed, "32-bit sums in the PEs, which kappa_area was fitted with (the preset has 20)"),
            fitted=True,
        ),
        Point(
            name="Gemmini: 256 KB scratchpad",
            unit="um2",
            published=544000.0,
            model=gemmini["activation_sram"] + gemmini["weight_sram"],
            source=GEMMINI,
            status="S",
            assumptions=(SRAM_LINE, "activation and weight buffer of the preset together"),
            fitted=True,
        ),
        Point(
            name="Gemmini: 64 KB accumulator",
            unit="um2",
            published=146000.0,
            model=gemmini["accumulator_sram"],
            source=GEMMINI,
            status="S",
            assumptions=(SRAM_LINE,),
            fitted=True,
        ),
        Point(
            name="TPUv4i: 128 MB CMEM",
            unit="mm2",
            published=112.0,
            model=at_7.sram_area_um2(128 * MIB, 64) / 1e6,
            source=TPU_V4I,
            status="S",
            assumptions=(SRAM_LINE,),
            fitted=True,
        ),
        Point(
            name="TPU v1: 24 MiB unified buffer",
            unit="mm2",
            published=0.29 * 331,
            model=tpu["activation_sram"] / 1e6,
            source=TPU_V1,
            status="R",
            assumptions=(SRAM_LINE, "the published area is an upper bound: the die is at most 331 mm2"),
            fitted=True,
        ),
        Point(
            name="TPU v1: matrix unit",
            unit="mm2",
            published=0.24 * 331,
            model=tpu["pe"] / 1e6,
            source=TPU_V1,
            status="R",
            assumptions=(placed, "32-bit sums; the published area is an upper bound: the die is at most 331 mm2"),
        ),
        Point(
            name="NVDLA 28 nm: buffer, marginal",
            unit="um2/KB",
            published=3246.0,
            model=at_28.sram_area_um2(1024, 64),
            source=NVDLA,
            status="V",
            assumptions=(SRAM_LINE,),
            fitted=True,
        ),
    ]


def _areas(preset: str) -> dict[str, float]:
    accelerator = load_accelerator(preset)
    built = Widths(accelerator.pe.weight_bits, accelerator.pe.act_bits, accelerator.accumulator.psum_bits)
    return area_um2(Machine(accelerator, technology("google", accelerator.node_nm), built))


# --- Eyeriss ---------------------------------------------------------------------------------------------------------

ALEXNET = (
    LayerShape(name="conv1", input=(227, 227, 3), outputs=96, kernel=(11, 11), stride=(4, 4)),
    LayerShape(name="conv2", input=(27, 27, 96), outputs=256, kernel=(5, 5), padding=(2, 2, 2, 2), groups=2),
    LayerShape(name="conv3", input=(13, 13, 256), outputs=384, kernel=(3, 3), padding=(1, 1, 1, 1)),
    LayerShape(name="conv4", input=(13, 13, 384), outputs=384, kernel=(3, 3), padding=(1, 1, 1, 1), groups=2),
    LayerShape(name="conv5", input=(13, 13, 384), outputs=256, kernel=(3, 3), padding=(1, 1, 1, 1), groups=2),
)
"""Convolutions of AlexNet (Krizhevsky et al., 2012), two groups as there."""

BATCH = 4


def eyeriss() -> list[Point]:
    """Return AlexNet on an array of Eyeriss' size that is not row-stationary."""
    accelerator = load_accelerator("eyeriss-12x14")
    result = simulate(shape_program("AlexNet", ALEXNET, 16, 16), accelerator, batch=BATCH)
    products = result.macs / BATCH
    rows = (
        ("products of one image", "10^6", 666.0, products / 1e6),
        ("images a second", "1/s", 34.7, BATCH / result.seconds),
        ("DRAM traffic of 4 images", "MB", 15.4, result.dram_bytes / 1e6),
        ("active PEs", "%", 88.0, 100 * result.utilization),
    )
    return [
        Point(
            name=f"AlexNet convolutions: {what}",
            unit=unit,
            published=published,
            model=model,
            source=EYERISS,
            status="V",
            assumptions=(
                "another machine: Eyeriss is row-stationary with a memory in every PE, the preset a weight-stationary "
                "array of the same 12x14 PEs, which reads its buffers for every operand",
                "16-bit operands stored dense (Eyeriss compresses zeros in DRAM and gates them in the PEs)",
                "every layer reads its input from DRAM and writes its output there; 1.6 GB/s at 80 %, 200 MHz",
                "the published share is of PEs with work, ours of useful products in the array's cycles",
            ),
            comparable=what == "products of one image",
        )
        for what, unit, published, model in rows
    ]
