"""Published figures, each with the table it is from; top-1 in percent, perplexity, or a factor, as printed.

Tables 1 and 6 of the OCS paper are in `reports.studies.qa_split.published` and `reports.studies.lstm_words.published`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where figures are from.

    Parameters
    ----------
    paper
        Authors and title.
    arxiv
        Its number there.
    table
        Place in the paper, or beside it.
    holds
        What stands there.
    """

    paper: str
    arxiv: str
    table: str
    holds: str


_OCS = (
    "Zhao, Hu, Dotzel, De Sa, Zhang: Improving Neural Network Quantization without Retraining using Outlier Channel "
    "Splitting, ICML 2019"
)
_SPLITQUANT = "Song, Lin: SplitQuant: Layer Splitting for Low-Bit Neural Network Quantization"
_MELLER = (
    "Meller, Finkelstein, Almog, Grobman: Same, Same But Different: Recovering Neural Network Quantization Error "
    "Through Weight Factorization, ICML 2019"
)

SOURCES = (
    Source(_OCS, "1901.09504v3", "Table 1", "quantization-aware and naive splitting, ResNet-20 on CIFAR-10"),
    Source(_OCS, "1901.09504v3", "Table 2", "weights, ImageNet; activations of 8 bits"),
    Source(_OCS, "1901.09504v3", "Table 3", "activations, ImageNet; weights of 8 bits"),
    Source(_OCS, "1901.09504v3", "Table 4", "activations of 6 bits, channels chosen on the batch itself (oracle)"),
    Source(_OCS, "1901.09504v3", "Table 5", "size overhead, ResNet-50"),
    Source(_OCS, "1901.09504v3", "Table 6", "weights of a word LSTM, WikiText-2"),
    Source(
        "Banner, Nahshan, Hoffer, Soudry: ACIQ: Analytical Clipping for Integer Quantization of neural networks",
        "1810.05723", "README of the authors' code, submission2019/cnn-quantization", "ResNet-50 with 4 bits",
    ),
    Source(_SPLITQUANT, "2501.12428", "abstract", "gain on two BERT-Tiny models, weights of 2 bits"),
    Source("Song, Lin: SplitQuantV2", "2503.07657", "abstract", "gain on Llama 3.2 1B Instruct, weights of 4 bits"),
    Source(
        _MELLER, "1902.01917", "ranges over networks, from notes on the paper rather than from its tables",
        "8 bits, one scale per layer",
    ),
)  # fmt: skip

Table = dict[str, dict[int, tuple[float, ...]]]
"""By network and width, in the order of the table's columns."""

COLUMNS = {
    "weights": (
        "none", "mse", "aciq", "kl", "best", "ocs 0.01", "ocs 0.02", "ocs 0.05",
        "ocs 0.01 + clip", "ocs 0.02 + clip", "ocs 0.05 + clip",
    ),
    "activations": ("none", "mse", "aciq", "kl", "best", "ocs 0.01", "ocs 0.02", "ocs 0.05"),
}  # fmt: skip
"""Of Tables 2 and 3. ``best`` is the paper's *best clip*: the largest of the four before it, no clip among them."""

FLOAT = {"VGG16-BN": 73.4, "ResNet-50": 76.1, "DenseNet-121": 74.4, "Inception-V3": 75.9}
"""Top-1 of the float networks of Tables 2 to 4."""

WEIGHTS: Table = {
    "VGG16-BN": {
        8: (73.0, 72.6, 72.8, 68.4, 73.0, 72.6, 72.9, 72.8, 72.7, 72.8, 72.5),
        7: (72.8, 72.5, 72.5, 60.7, 72.8, 72.1, 72.8, 72.5, 72.4, 72.1, 72.6),
        6: (70.8, 71.3, 71.2, 63.2, 71.3, 72.3, 72.2, 72.3, 71.8, 71.8, 72.1),
        5: (63.1, 66.9, 61.2, 62.7, 66.9, 69.3, 70.2, 71.0, 68.8, 69.5, 70.0),
        4: (0.2, 53.5, 34.2, 59.4, 59.4, 10.4, 26.3, 37.9, 63.8, 63.8, 65.9),
    },
    "ResNet-50": {
        8: (75.4, 75.5, 75.4, 73.5, 75.5, 75.7, 75.7, 75.7, 75.7, 75.7, 75.4),
        7: (75.0, 75.2, 75.0, 72.8, 75.2, 75.5, 75.5, 75.6, 75.5, 75.5, 75.5),
        6: (72.9, 73.5, 74.3, 71.6, 74.3, 74.9, 74.7, 75.0, 74.8, 74.8, 75.2),
        5: (14.5, 69.1, 69.9, 69.4, 69.9, 69.4, 71.9, 72.6, 71.0, 71.9, 73.4),
        4: (0.1, 45.0, 33.2, 62.9, 62.9, 12.1, 36.1, 55.2, 66.2, 67.1, 69.3),
    },
    "DenseNet-121": {
        8: (74.1, 73.8, 73.7, 71.0, 74.1, 74.2, 74.2, 74.2, 74.2, 74.2, 74.2),
        7: (73.8, 73.3, 73.1, 62.3, 73.8, 73.9, 74.0, 74.0, 74.1, 74.2, 74.1),
        6: (71.0, 71.4, 71.1, 60.7, 71.4, 72.9, 73.0, 73.2, 73.2, 73.1, 73.1),
        5: (46.9, 65.4, 61.4, 54.6, 65.4, 65.5, 69.7, 71.3, 70.0, 70.7, 71.6),
        4: (0.4, 33.3, 25.2, 42.6, 42.6, 13.1, 37.5, 53.0, 52.7, 56.5, 63.0),
    },
    "Inception-V3": {
        8: (74.8, 74.6, 74.0, 72.6, 74.8, 75.2, 75.4, 75.3, 74.8, 75.0, 74.9),
        7: (73.2, 71.2, 69.1, 69.4, 73.2, 74.8, 74.7, 74.7, 71.8, 73.8, 74.2),
        6: (58.3, 66.2, 62.3, 63.0, 66.2, 71.3, 71.8, 72.1, 70.5, 71.7, 72.5),
        5: (0.5, 30.4, 29.6, 40.5, 40.5, 45.2, 54.0, 60.2, 57.0, 60.0, 62.9),
        4: (0.1, 0.2, 0.1, 1.6, 1.6, 0.1, 0.2, 0.6, 2.1, 2.3, 4.8),
    },
}
"""Table 2."""

ACTIVATIONS: Table = {
    "VGG16-BN": {
        8: (72.5, 73.2, 73.1, 73.2, 73.2, 72.7, 72.8, 72.5),
        7: (70.8, 72.8, 72.8, 72.7, 72.8, 70.5, 70.7, 70.2),
        6: (49.0, 71.3, 71.4, 70.6, 71.4, 49.2, 46.0, 45.9),
        5: (0.7, 62.0, 58.1, 51.6, 62.0, 1.6, 1.0, 1.4),
        4: (0.1, 11.5, 5.0, 2.4, 11.5, 0.1, 0.2, 0.1),
    },
    "ResNet-50": {
        8: (75.5, 75.9, 75.8, 75.8, 75.9, 75.6, 75.5, 75.7),
        7: (75.4, 75.3, 75.2, 75.3, 75.4, 74.1, 74.5, 74.1),
        6: (62.6, 73.5, 73.5, 72.8, 73.5, 63.3, 63.3, 63.6),
        5: (5.7, 63.7, 65.4, 56.7, 65.4, 10.0, 12.6, 6.0),
        4: (0.1, 9.0, 20.6, 7.2, 20.6, 0.1, 0.1, 0.1),
    },
    "DenseNet-121": {
        8: (74.0, 74.1, 73.8, 74.1, 74.1, 74.1, 74.2, 74.1),
        7: (73.0, 73.7, 72.9, 73.7, 73.6, 73.2, 73.2, 73.0),
        6: (67.2, 72.6, 70.9, 72.1, 72.6, 67.9, 65.8, 66.6),
        5: (19.9, 66.9, 64.6, 64.5, 66.9, 16.0, 18.7, 13.2),
        4: (0.2, 26.9, 20.1, 16.5, 26.9, 0.1, 0.1, 0.1),
    },
    "Inception-V3": {
        8: (74.8, 75.1, 73.4, 75.0, 75.1, 74.8, 74.9, 74.8),
        7: (72.6, 74.2, 71.3, 73.8, 74.2, 72.6, 72.4, 72.6),
        6: (51.6, 69.6, 60.7, 67.9, 69.6, 54.1, 51.5, 48.5),
        5: (1.3, 34.2, 5.8, 25.3, 34.2, 1.0, 0.9, 1.0),
        4: (0.1, 0.3, 0.1, 0.2, 0.3, 0.1, 0.1, 0.2),
    },
}
"""Table 3. DenseNet-121 at 7 bits: the best clip is as printed; the largest of its row is 73.7."""

ORACLE_BATCHES = (1, 2, 4, 8, 32, 128)
ORACLE: dict[str, tuple[float, ...]] = {
    "ResNet-50": (74.6, 74.5, 74.0, 74.1, 73.5, 73.3),
    "Inception-V3": (71.7, 71.7, 71.6, 70.9, 70.7, 70.3),
}
"""Table 4: r = 0.02, by images that the oracle sees at once. Its last columns repeat Table 3 (none, best clip)."""

OVERHEAD: dict[float, tuple[float, float]] = {
    0.01: (1.01, 1.02),
    0.02: (1.02, 1.03),
    0.05: (1.05, 1.06),
    0.1: (1.1, 1.11),
}
"""Table 5: by expansion ratio, weights and activations over those of the unsplit network."""

ACIQ = {
    "plain, weights and activations of 4 bits": 62.154,
    "ACIQ, bit allocation and bias correction, weights and activations of 4 bits": 73.330,
    "the same with statistics taken beforehand": 74.2,
    "4 bits with ACIQ, one scale per layer": 71.404,
    "4 bits, clipped at two standard deviations": 15.440,
}
"""Top-1 of ResNet-50."""

SPLITQUANT_GAINS = (3.3, 2.1)
"""Points over the same 2-bit quantizer without it; which of the two models has which was not at hand."""
SPLITQUANT_V2_GAIN = 11.76
"""Points over linear quantization, weights of 4 bits, ARC."""

EQUALIZED: dict[str, tuple[float, float]] = {"none": (0.25, 5.78), "one-step": (0.38, 0.80), "two-step": (0.25, 0.78)}
"""Smallest and largest loss of top-1 in points over ResNet-50, ResNet-152, Inception-V1, -V3 and DenseNet-121."""
EQUALIZED_MOBILENET = (0.55, 0.95)
"""MobileNet, two-step and biases tuned on about 1000 unlabelled images."""
