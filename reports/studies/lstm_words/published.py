"""What the paper found: perplexity of a word LSTM on WikiText-2, weights alone quantized.

Zhao, Hu, Dotzel, De Sa, Zhang, "Improving Neural Network Quantization without Retraining using Outlier Channel
Splitting", ICML 2019, arXiv:1901.09504v3, Table 6: two layers of 650 cells, embedding 650, 33,278 words.
"""

FLOAT = 95.1

CLIPS = ("none", "mse", "aciq", "kl")
RATIOS = (0.0, 0.01, 0.02, 0.05)
BITS = (6, 5)

PERPLEXITY: dict[tuple[int, float], tuple[float, ...]] = {
    (6, 0.0): (94.5, 98.1, 99.0, 97.7),
    (6, 0.01): (95.0, 97.9, 99.0, 97.7),
    (6, 0.02): (94.6, 97.8, 96.1, 96.3),
    (6, 0.05): (93.9, 96.6, 96.1, 95.9),
    (5, 0.0): (98.2, 99.4, 100.8, 98.8),
    (5, 0.01): (97.3, 99.7, 99.9, 97.7),
    (5, 0.02): (95.7, 98.9, 99.2, 97.0),
    (5, 0.05): (95.1, 98.2, 98.5, 96.3),
}
"""By width and expansion ratio, in the order of `CLIPS`."""


def published(bits: int, ratio: float, clip: str) -> float:
    """Return the paper's perplexity."""
    return PERPLEXITY[bits, ratio][CLIPS.index(clip)]
