"""Where the energy goes as widths shrink, per PE type."""
