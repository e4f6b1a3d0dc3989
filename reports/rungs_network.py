"""Rungs 5 and 6 of the ladder: transforms keep the float function; the definition equals the torch oracle."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim import reference
from accelsim.arith import Accumulation, Overflow
from accelsim.config import Accelerator, load_accelerator
from accelsim.execute import Execution, accumulations, execute
from accelsim.program import Conv, MatMul, Program
from accelsim.register import execute_register
from quant import oracle
from quant.equalize_meller import TwoStep
from quant.fold import fold_batch_norm
from quant.ocs import SplitOutliers
from quant.ocs_activation import SplitActivations
from quant.pipeline import quantize_network
from quant.recipe import Recipe, protected_layers
from quant.run import predict
from quant.transform import Context, Transform
from quant.transforms import TRANSFORMS
from reports.checks import Checks
from reports.op_samples import SAMPLES, sample_inputs, sample_program
from reports.task import Integers, Task
from reports.witness import first_difference

FLOAT_TOLERANCE = 1e-4
"""Largest difference that float32 sums in another order may make, relative to the largest output."""

PROGRAMS_PER_OP = 20
IMAGES = 2

MOST_PRODUCTS = 20_000_000
"""Networks of more products a sample are not stepped register by register, nor added up in plain numpy."""

VARIANTS: tuple[Transform, ...] = (
    SplitOutliers(ratio=0.2),
    SplitOutliers(ratio=0.05, naive=True),
    SplitOutliers(ratio=0.05, threshold_ratio=0.5),
)
"""Checked beside one form of every transform that is listed."""

RECIPES = (
    Recipe(),
    Recipe(weight_bits=4, transforms=(SplitOutliers(ratio=0.05),)),
    Recipe(weight_bits=5, act_bits=6, per_channel=True, first_last="same"),
    Recipe(weight_bits=6, act_bits=5, transforms=(TwoStep(), SplitActivations(ratio=0.05), SplitOutliers(ratio=0.02))),
)

# every array as it comes, and one whose registers are too narrow for any network
ACCELERATORS = ("edge-32x32", "gemmini-16x16")
NARROW_BITS = (14, 16)


def check_transforms(tasks: tuple[Task, ...], seed: int) -> Checks:
    """Rung 5: the float network gives the same after batch norm folding and after every transform."""
    transforms = [*map(_typical, TRANSFORMS.values()), *VARIANTS]
    checks = Checks(covered=[*(task.title for task in tasks if task.captured), *(t.label for t in transforms)])
    for task in tasks:
        if task.captured is None:
            checks.skip(f"{task.workload.name} came as integers: there is no float function to keep")
            continue
        x = task.samples.batch(task.evaluated[:16])
        before = predict(task.graph, x)
        folded = fold_batch_norm(task.graph)
        _expect_close(checks, before, predict(folded, x), f"{task.workload.name}: batch norm folding")
        context = Context(
            protected=protected_layers(folded, Recipe(first_last="same")), calibration=task.calibration, seed=seed
        )
        for transform in transforms:
            after = predict(transform(folded, context).check(), x)
            _expect_close(checks, before, after, f"{task.workload.name}: {transform.label}")
    return checks


def _typical(kind: type[Transform]) -> Transform:
    """Return a transform with usual options: 5 % more channels where it adds channels."""
    given = {"ratio": 0.05} if "ratio" in {field.name for field in fields(kind)} else {}  # type: ignore[arg-type]
    return kind(**given)


def _expect_close(checks: Checks, before: NDArray[Any], after: NDArray[Any], what: str) -> None:
    largest = float(np.abs(before).max())
    difference = float(np.abs(after - before).max())
    checks.compared += before.size - 1
    checks.expect(difference <= FLOAT_TOLERANCE * largest, f"{what} moves outputs by {difference:.2g} of {largest:.2g}")


def check_oracle_ops(seed: int) -> Checks:
    """Rung 6, first half: reference = torch oracle = functional engine on random Programs of every op."""
    checks = Checks(covered=[f"{len(SAMPLES)} kinds of op, {PROGRAMS_PER_OP} random Programs of each"])
    for place, kind in enumerate(SAMPLES):
        for number in range(PROGRAMS_PER_OP):
            rng = np.random.default_rng([seed, place, number])
            program = sample_program(kind, rng)
            codes = sample_inputs(program, 3, rng)
            what = f"{kind}, Program {number} of seed {seed}"
            rules = _random_accumulation(rng) if kind in ("conv", "matmul") else None
            ours, theirs = reference.run(program, codes, rules), oracle.run(program, codes, rules)
            checks.equal(ours.values["y"], theirs.values["y"], f"{what}: reference and oracle")
            for name, events in theirs.overflow_events.items():
                checks.equal(ours.overflow[name].events, events, f"{what}: overflow of reference and oracle")
            free = reference.run(program, codes).values["y"]
            checks.equal(execute(program, codes).outputs["y"], free, f"{what}: functional engine and reference")
    return checks


def _random_accumulation(rng: np.random.Generator) -> Accumulation:
    hop = int(rng.integers(1, 5))
    rules: tuple[Overflow, Overflow] = ("wrap", "saturate")
    return Accumulation(
        fold_k=hop * int(rng.integers(1, 7)) if rng.integers(4) else None,
        products_per_hop=hop,
        psum_bits=int(rng.integers(6, 20)),
        psum_overflow=rules[int(rng.integers(2))],
        acc_bits=int(rng.integers(8, 24)),
        acc_overflow=rules[int(rng.integers(2))],
    )


def check_oracle_networks(tasks: tuple[Task, ...], seed: int) -> Checks:
    """Rung 6, second half: reference = oracle = both engines on whole networks, registers wide and narrow."""
    checks = Checks(covered=[task.title for task in tasks])
    for task in tasks:
        x = task.samples.batch(task.evaluated[:IMAGES])
        for quantized in _forms(task, seed):
            checks.covered.append(quantized.label)
            products = _products(quantized.program)
            for accelerator in machines():
                what = f"{task.workload.name} {quantized.label} on {accelerator.name}"
                if products <= MOST_PRODUCTS:
                    _check_network(checks, quantized, quantized.encode(x), accelerator, what)
                elif accelerator.name == ACCELERATORS[0]:
                    fast = execute(quantized.program, quantized.encode(x), accelerator, keep=_made(quantized.program))
                    _check_oracle(checks, quantized, quantized.encode(x), fast, accelerator, what)
        if products > MOST_PRODUCTS:
            checks.skip(
                f"{task.workload.name}: {products / 1e6:.0f} million products a sample, stepped up to "
                f"{MOST_PRODUCTS / 1e6:.0f}; the functional engine on {ACCELERATORS[0]} was compared, the register "
                "engine, the numpy reference and other registers were not"
            )
    return checks


def _made(program: Program) -> list[str]:
    return [op.output for op in program.ops]


def _products(program: Program) -> int:
    """Return the products of a sample."""
    total = 0
    for op in program.ops:
        size = program.tensors[op.output].size
        if isinstance(op, Conv):
            total += size * int(np.prod(op.weight.shape[1:]))
        elif isinstance(op, MatMul):
            total += size * program.tensors[op.inputs[0]].shape[-1]
    return total


def _forms(task: Task, seed: int) -> Iterator[Integers]:
    """Yield a network's integers: as they came, or by every recipe."""
    if task.integers is not None:
        yield task.integers
        return
    for recipe in RECIPES:
        yield quantize_network(task.graph, task.calibration, recipe, seed=seed)


def machines() -> Iterator[Accelerator]:
    """Yield the accelerators of the whole-network rung: presets, and narrow registers that wrap and saturate."""
    presets = [load_accelerator(name) for name in ACCELERATORS]
    yield from presets
    for rule in ("saturate", "wrap"):
        narrow = {"psum_bits": NARROW_BITS[0], "bits": NARROW_BITS[1], "psum_overflow": rule, "overflow": rule}
        accumulator = presets[0].accumulator.model_copy(update=narrow)
        yield presets[0].model_copy(update={"name": f"narrow registers that {rule}", "accumulator": accumulator})


def _check_network(
    checks: Checks, quantized: Integers, codes: Mapping[str, NDArray[np.int64]], machine: Accelerator, what: str
) -> None:
    program, rules = quantized.program, accumulations(quantized.program, machine)
    keep = _made(program)
    defined = reference.run(program, codes, rules)  # type: ignore[arg-type]
    fast = execute(program, codes, machine, keep=keep)
    stepped = execute_register(program, codes, machine, keep=keep)
    for name in keep:
        checks.equal(fast.outputs[name], defined.values[name], f"{what}: functional engine and reference, {name}")
        checks.equal(stepped.outputs[name], defined.values[name], f"{what}: register engine and reference, {name}")
    for op in program.ops:
        if isinstance(op, Conv | MatMul):
            events = defined.overflow[op.name].events
            for engine, run in (("functional", fast), ("register", stepped)):
                seen = run.overflow.get(op.name)
                ours = np.zeros_like(events) if seen is None else seen.events
                checks.equal(ours, events, f"{what}: overflow of {op.name}, {engine} engine and reference")
    _check_oracle(checks, quantized, codes, fast, machine, what)


def _check_oracle(
    checks: Checks,
    quantized: Integers,
    codes: Mapping[str, NDArray[np.int64]],
    fast: Execution,
    machine: Accelerator,
    what: str,
) -> None:
    program = quantized.program
    found = first_difference(program, codes, fast, accumulations(program, machine))
    values = sum(program.tensors[name].size for name in _made(program))
    checks.compared += values * len(next(iter(codes.values()))) - 1
    checks.expect(not found, f"{what}: functional engine and oracle: {found}")
