"""`python -m stairstream` is the command line."""

import sys

from stairstream.cli.main import main

sys.exit(main())
