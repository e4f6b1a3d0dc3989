"""What a search finds of a front that is known: a space small enough to measure all of it.

``python -m reports.studies.search_front`` makes ``results.json`` and ``README.md`` in this folder.
"""
