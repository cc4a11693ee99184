"""`python -m helpers.backends`: the backend in one line; exit code 1 if the accelerator can't be used."""

import sys

from helpers.backends.choice import explain
from helpers.files import replace_unprintable

replace_unprintable()
print(line := explain())
sys.exit(line.startswith("FAIL"))
