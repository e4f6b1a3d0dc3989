"""``python -m reports.studies.accumulators --data DIR``."""

import sys

from reports.studies.accumulators.page import charts, render
from reports.studies.accumulators.study import collect
from reports.studies.swept import regenerate_swept, swept_parser

if __name__ == "__main__":
    sys.exit(regenerate_swept(swept_parser("accumulators"), sys.argv[1:], collect, render, charts))
