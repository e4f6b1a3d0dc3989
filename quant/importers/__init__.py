"""Readers of networks that other tools have quantized; each gives an integer Program under its runtime's own rules."""
