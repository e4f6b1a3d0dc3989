"""``python -m reports.studies.free_splits --data DIR``."""

import sys

from reports.studies.free_splits.page import charts, render
from reports.studies.free_splits.study import collect
from reports.studies.swept import regenerate_swept, swept_parser

if __name__ == "__main__":
    sys.exit(regenerate_swept(swept_parser("free_splits"), sys.argv[1:], collect, render, charts))
