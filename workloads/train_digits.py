"""Train the embedded digits network: ``python -m workloads.train_digits [--out FILE] [--seed S]``.

Ten seconds on one core. The scales of the batch norms that feed dense convolutions start log-normal instead
of all one: the channels of the trained network then differ in range, and a consumer's weights are large
where its input is small. This is what makes outliers visible on so easy a task (with scales of one, 4-bit
weights lose next to nothing here); it says nothing about how common such ranges are elsewhere. Training and
checkpoint are otherwise untouched.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from workloads.digits import CHECKPOINT, SIDE, DigitsNet, digits_samples

EPOCHS = 30
BATCH = 64
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-2
SCALE_SPREAD = 0.7  # standard deviation of ln(scale) at the start
SPREAD_NORMS = ("stem.1", "block1.conv1.1", "block1.conv2.1", "block2.conv1.1", "widen.1")
SEED = 0


def train(seed: int = SEED) -> DigitsNet:
    """Return the trained network in eval mode; one thread, so that the seed decides everything."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _train()
    finally:
        torch.set_num_threads(threads)


def accuracy(net: nn.Module) -> float:
    """Return the share of the 600 test samples that are classified rightly."""
    samples = digits_samples()
    indices = np.arange(samples.evaluable or len(samples))
    with torch.inference_mode():
        outputs = net(torch.from_numpy(samples.batch(indices)))
    return float((outputs.argmax(1).numpy() == samples.labels(indices)).mean())


def _train() -> DigitsNet:
    samples = digits_samples()
    indices = np.arange(samples.evaluable or 0, len(samples))
    x, y = torch.from_numpy(samples.batch(indices)), torch.from_numpy(samples.labels(indices))
    net = DigitsNet()
    for name, module in net.named_modules():
        if name in SPREAD_NORMS and isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, std=SCALE_SPREAD)
            module.weight.data.exp_()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        net.train()
        for chosen in torch.randperm(len(x)).split(BATCH):
            loss = functional.cross_entropy(net(_shifted(x[chosen])), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def _shifted(x: torch.Tensor) -> torch.Tensor:
    """Return a batch moved by up to one pixel each way, zeros moving in."""
    down, right = (int(shift) for shift in torch.randint(0, 3, (2,)))
    return functional.pad(x, (1, 1, 1, 1))[:, :, down : down + SIDE, right : right + SIDE]


def main() -> None:
    """Train, report and save."""
    parser = argparse.ArgumentParser(description="train the embedded digits network")
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    net = train(args.seed)
    state = {n: t for n, t in net.state_dict().items() if not n.endswith("num_batches_tracked")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, args.out)
    print(f"{args.out}: test accuracy {accuracy(net):.4f}")


if __name__ == "__main__":
    main()
