"""Quantization-aware against naive splitting: Table 1 of the OCS paper, on real CIFAR-10 images, in integers.

``python -m reports.studies.qa_split --data DIR`` makes ``results.json`` and ``README.md`` in this folder.
"""
