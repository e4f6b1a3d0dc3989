"""Energy of the PEs by the bits that flip on some samples, beside the price per MAC: ``--toggles``."""

from typing import Any

from accelsim.config import Accelerator
from accelsim.simulate import default_technology
from accelsim.technology import Technology
from accelsim.toggle_energy import toggle_energy
from reports.task import Integers, Task


def toggle_record(
    task: Task, quantized: Integers, accelerator: Accelerator, technology: Technology | None, samples: int
) -> dict[str, Any]:
    """Return PE energy per sample in pJ, total and by layer; nothing where no samples are asked for.

    It stands in place of ``energy_pj.pe`` at batch 1, which prices every MAC alike.
    """
    if samples == 0:
        return {}
    chosen = task.evaluated[:samples]
    prices = default_technology(accelerator.node_nm) if technology is None else technology
    found = toggle_energy(quantized.program, quantized.encode(task.samples.batch(chosen)), accelerator, prices)
    layers = {layer.name: layer.energy_pj / len(chosen) for layer in found}
    return {"pe_toggle_energy_pj": {"samples": len(chosen), "total": sum(layers.values()), "layers": layers}}
