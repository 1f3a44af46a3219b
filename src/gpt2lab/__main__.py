"""`python -m gpt2lab` is the command `gpt2lab`."""

import sys

from gpt2lab.cli.main import main

sys.exit(main())
