"""``python -m reports.studies.ocs_vs_bits --data DIR``."""

import sys

from reports.studies.ocs_vs_bits.page import charts, render
from reports.studies.ocs_vs_bits.study import collect
from reports.studies.swept import regenerate_swept, swept_parser

if __name__ == "__main__":
    sys.exit(regenerate_swept(swept_parser("ocs_vs_bits"), sys.argv[1:], collect, render, charts))
