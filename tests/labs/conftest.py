"""conftest.py - lets the tests of the labs find the grader."""
import sys

from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
