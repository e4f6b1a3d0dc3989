"""Accumulator advice of a run: the narrowest safe widths of every layer, by proof and by what some samples reach."""

from typing import Any

from accelsim.advisor import advise
from accelsim.config import Accelerator
from reports.task import Integers, Task

SAMPLES = 1
"""Evaluated samples whose running sums are looked at, one by one in the array's order: slow for large networks."""


def advice_records(task: Task, quantized: Integers, accelerator: Accelerator) -> dict[str, dict[str, Any]]:
    """Return, by layer, widths in bits: ``psum_bits`` and ``bits`` by proof, ``seen_…`` by data, and the ℓ1 bound.

    ``psum_bits`` is ``None`` where no sum moves (``os``).
    """
    samples = task.evaluated[:SAMPLES]
    found = advise(quantized.program, accelerator, quantized.encode(task.samples.batch(samples)))
    return {
        advice.name: {
            "bound": advice.bound,
            "psum_bits": advice.psum_bits,
            "bits": advice.acc_bits,
            "seen_psum_bits": advice.seen_psum_bits,
            "seen_bits": advice.seen_acc_bits,
            "samples": len(samples),
        }
        for advice in found
    }
