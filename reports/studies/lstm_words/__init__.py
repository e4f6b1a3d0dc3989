"""Recurrent language models: Table 6 of the OCS paper in the same shape, on a character LSTM and a word LSTM.

``python -m reports.studies.lstm_words --data DIR`` makes ``results.json`` and ``README.md`` in this folder.
"""
