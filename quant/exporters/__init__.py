"""Writers of quantized networks for other tools."""
