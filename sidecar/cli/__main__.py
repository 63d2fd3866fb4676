"""``python -m sidecar.cli``."""

import sys

from sidecar.cli import main

sys.exit(main())
