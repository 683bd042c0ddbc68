"""`python -m bandlimit` is the command `bandlimit`."""

import sys

from bandlimit.cli import main

sys.exit(main())
