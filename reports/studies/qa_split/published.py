"""What the paper found: top-1 in percent of ResNet-20 on CIFAR-10.

Zhao, Hu, Dotzel, De Sa, Zhang, "Improving Neural Network Quantization without Retraining using Outlier Channel
Splitting", ICML 2019, arXiv:1901.09504v3, Table 1 ("QA / naive").
"""

BITS = (6, 5, 4, 3)
RATIOS = (0.01, 0.05, 0.1, 0.2)

QA = {
    6: (92.0, 91.9, 92.1, 92.0),
    5: (91.6, 91.7, 92.0, 91.7),
    4: (88.0, 88.2, 88.7, 89.1),
    3: (49.9, 58.3, 62.7, 76.5),
}
NAIVE = {
    6: (91.9, 92.0, 91.9, 92.0),
    5: (91.4, 91.6, 91.8, 91.8),
    4: (88.3, 88.3, 86.8, 86.8),
    3: (44.5, 44.8, 44.6, 52.8),
}


def published(bits: int, ratio: float) -> tuple[float, float]:
    """Return the paper's (QA, naive) accuracies as shares."""
    place = RATIOS.index(ratio)
    return QA[bits][place] / 100, NAIVE[bits][place] / 100
