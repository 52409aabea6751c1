"""``python -m mdtheory``."""

import sys

from mdtheory.cli import main

sys.exit(main())
