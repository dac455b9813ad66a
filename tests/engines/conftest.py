"""What the engines' tests share: the examples can be imported, and no hub is asked."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2] / "docs/examples"))
