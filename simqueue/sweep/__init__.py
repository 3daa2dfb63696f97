"""Grids of scenarios: every combination simulated, one tidy table."""

from simqueue.sweep.cells import Cell, Plan, plan
from simqueue.sweep.run import Failure, Row, run

__all__ = ["Cell", "Failure", "Plan", "Row", "plan", "run"]
