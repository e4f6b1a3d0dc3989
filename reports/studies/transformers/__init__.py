"""Transformers: SplitQuant on BERT-Tiny in the paper's setting, and OCS, clipping and SmoothQuant on a small Llama.

``python -m reports.studies.transformers --data DIR`` makes ``results.json`` and ``README.md`` in this folder.
"""
