"""What an execution of a whole network takes of memory: bounded, whatever the batch."""

import pytest
from peak_memory import peak_bytes
from zoo_nets import METHODS, SAMPLES, Net

from quant.capture import capture
from quant.pipeline import quantize_network
from workloads.zoo import zoo_names, zoo_workload

BATCH = 32
MOST = 2 << 30


@pytest.mark.slow
@pytest.mark.skipif(not zoo_names(), reason="torchvision is not installed (extra vision)")
@pytest.mark.parametrize("method", ["eight bits", "ocs"])
def test_resnet50_at_batch_32_stays_below_two_gib(method: str) -> None:
    net = Net(zoo_workload("resnet50").build, (3, 224, 224))
    samples = net.samples()
    quantized = quantize_network(capture(net.module(), samples[:1]), lambda: [samples[:2]], METHODS[method])
    codes = {name: array.repeat(BATCH // SAMPLES, axis=0) for name, array in quantized.encode(samples).items()}
    before, most = peak_bytes(quantized.program, codes, threads=2)
    assert before < most < MOST
