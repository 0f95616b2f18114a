"""nexa-tiny: a small base language model with its held-out items and samples, so that nexa runs with no key."""

from pathlib import Path

WEIGHTS_PATH = Path(__file__).parent / "weights"
DATA_PATH = Path(__file__).parent / "data"
