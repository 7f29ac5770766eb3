"""`python -m lipscale`, the same as the command `lipscale`."""

import sys

from lipscale.cli import main

sys.exit(main())
