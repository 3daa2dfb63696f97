"""What arrives: arrival processes, token lengths, traces, and the columns they make."""

from simqueue.workload.arrivals import Arrivals, Constant, Gamma, Overlong, Poisson, Trace
from simqueue.workload.lengths import Empirical, Fixed, Geometric, Lengths, Lognormal, Uniform
from simqueue.workload.mmpp import MMPP
from simqueue.workload.spec import WorkloadSpec
from simqueue.workload.stamped import TraceWarning
from simqueue.workload.users import ExponentialThink, FixedThink, LognormalThink, Think, Users
from simqueue.workload.varying import Sinusoidal, Varying
from simqueue.workload.workload import Workload, make_workload

__all__ = [
    "MMPP",
    "Arrivals",
    "Constant",
    "Empirical",
    "ExponentialThink",
    "Fixed",
    "FixedThink",
    "Gamma",
    "Geometric",
    "Lengths",
    "Lognormal",
    "LognormalThink",
    "Overlong",
    "Poisson",
    "Sinusoidal",
    "Think",
    "Trace",
    "TraceWarning",
    "Uniform",
    "Users",
    "Varying",
    "Workload",
    "WorkloadSpec",
    "make_workload",
]
