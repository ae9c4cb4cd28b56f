"""A script that was taken for a module."""

import sys

sys.exit("usage: exits_at_import FILE")
