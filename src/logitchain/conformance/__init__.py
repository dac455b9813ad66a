"""The conformance kit: an installed engine's own samplers against our chain with its preset."""

from .report import Report
from .run import ENGINES, check

__all__ = ["ENGINES", "Report", "check"]
