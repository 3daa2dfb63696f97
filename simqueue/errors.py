"""What simqueue raises when it refuses something; the command line prints these as one line and exits with 2."""


class SimqueueError(Exception):
    """Base of every refusal: the message names the value, the place and the remedy."""


class ConfigError(SimqueueError):
    """A scenario, a policy's parameter or a command-line argument cannot be used."""


class WorkloadError(SimqueueError):
    """Arrivals, lengths or a trace file cannot be used."""


class ProfileError(SimqueueError):
    """A profile cannot be read, or was asked for something outside what it measured."""


class OutputError(SimqueueError):
    """Results cannot be written to, or read from, the place given."""


class DeviceError(SimqueueError):
    """The device of a live run cannot do what it was asked to, for instance for want of memory."""


class InvariantError(SimqueueError):
    """A policy broke the contract of the scheduling core (docs/design.md), or the core itself did."""
