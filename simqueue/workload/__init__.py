"""What arrives: arrival processes, token lengths, traces, and the columns they make."""

from simqueue.workload.arrivals import Arrivals, Batches, Constant, Gamma, Open, Overlong, Poisson, Single, Trace
from simqueue.workload.clients import ClientClass, Clients
from simqueue.workload.counts import Count, GeometricCount
from simqueue.workload.lengths import Empirical, Fixed, Geometric, Lengths, Lognormal, Uniform
from simqueue.workload.make import make_workload
from simqueue.workload.mmpp import MMPP
from simqueue.workload.pairs import PairedLengths, Pairs, Sharegpt
from simqueue.workload.sessions import Sessions
from simqueue.workload.spec import WorkloadSpec
from simqueue.workload.stamped import TraceWarning
from simqueue.workload.users import ExponentialThink, FixedThink, LognormalThink, Think, Users
from simqueue.workload.varying import Sinusoidal, Varying
from simqueue.workload.workload import Workload

__all__ = [
    "MMPP",
    "Arrivals",
    "Batches",
    "ClientClass",
    "Clients",
    "Constant",
    "Count",
    "Empirical",
    "ExponentialThink",
    "Fixed",
    "FixedThink",
    "Gamma",
    "Geometric",
    "GeometricCount",
    "Lengths",
    "Lognormal",
    "LognormalThink",
    "Open",
    "Overlong",
    "PairedLengths",
    "Pairs",
    "Poisson",
    "Sessions",
    "Sharegpt",
    "Single",
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
