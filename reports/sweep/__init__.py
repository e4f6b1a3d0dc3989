"""Sweeps: networks × recipes × accelerators × technologies, each point measured once and kept."""
