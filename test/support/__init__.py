"""What several test files share: small inputs, reference values, and programs that tests start."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).resolve().parent
