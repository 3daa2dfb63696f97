"""The random scenarios of one replica serve for several, too; and the statistics of theory."""

import sys
from pathlib import Path

for _folder in ("property", "theory"):
    sys.path.insert(0, str(Path(__file__).parents[1] / _folder))
