"""The virtual-time driver."""

from simqueue.sim.simulate import saturation_rps, simulate

__all__ = ["saturation_rps", "simulate"]
