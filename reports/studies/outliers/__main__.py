"""``python -m reports.studies.outliers --data DIR``."""

import sys

from reports.studies.outliers.page import charts, render
from reports.studies.outliers.study import collect
from reports.studies.swept import regenerate_swept, swept_parser

if __name__ == "__main__":
    sys.exit(regenerate_swept(swept_parser("outliers"), sys.argv[1:], collect, render, charts))
