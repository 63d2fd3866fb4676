"""The demo's task in names and numbers: what the network reads, what it advises, and where the files are."""

from pathlib import Path
from typing import Final

MODEL_PATH: Final = Path(__file__).with_name("safe_distance.onnx")
PROPERTIES_PATH: Final = Path(__file__).with_name("safe_distance.yaml")

INPUT: Final = "features"
OUTPUT: Final = "scores"
ADVICE: Final = ("BRAKE_HARD", "BRAKE", "HOLD", "ACCELERATE")
"""The scores' order; the largest is followed."""

LARGEST: Final = (150.0, 40.0, 40.0)
"""Gap in m, own speed and closing speed in m/s that are 1 on the wire."""

LOWER: Final = (0.0, 0.0, -0.5)
UPPER: Final = (1.0, 1.0, 1.0)
"""The sensors' range in wire units."""
