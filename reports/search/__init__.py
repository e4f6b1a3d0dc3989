"""Search for good designs: widths and splits of every layer together with the machine, by several objectives."""
