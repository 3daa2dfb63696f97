"""Grids of scenarios: every combination simulated, one tidy table."""

from simqueue.sweep.cells import Cell, Plan, plan
from simqueue.sweep.run import run
from simqueue.sweep.store import Store
from simqueue.sweep.task import Failure, Row

__all__ = ["Cell", "Failure", "Plan", "Row", "Store", "plan", "run"]
