"""``python -m reports.studies.bitwidth_energy --data DIR``."""

import sys

from reports.studies.bitwidth_energy.page import charts, render
from reports.studies.bitwidth_energy.study import collect
from reports.studies.swept import regenerate_swept, swept_parser

if __name__ == "__main__":
    sys.exit(regenerate_swept(swept_parser("bitwidth_energy"), sys.argv[1:], collect, render, charts))
