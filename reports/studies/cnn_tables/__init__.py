"""The OCS paper's tables of weights and activations, on convolutional networks with real weights and images."""
