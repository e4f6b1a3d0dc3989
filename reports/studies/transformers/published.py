"""What the papers found.

Song and Lin, "SplitQuant: Layer Splitting for Low-Bit Neural Network Quantization", arXiv:2501.12428, abstract: on two
BERT-Tiny models (emotion and SMS spam), weights of 2 bits, SplitQuant gains 3.3 and 2.1 points of accuracy over the
same quantizer without it, and comes near the accuracy of the floating-point models. The table by width was not at hand.
"""

INT2_GAINS = (0.033, 0.021)
"""Accuracy with SplitQuant minus without, weights of 2 bits, on the paper's two models."""
