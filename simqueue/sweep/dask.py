"""The workers of a Dask cluster as an executor, if they would have the numbers that this process has."""

from __future__ import annotations

import logging
import re
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Client, WorkerPlugin

from simqueue.errors import ConfigError
from simqueue.sweep.content import versions

_PATIENCE_S = 5.0
_ADDRESS = re.compile(r"((tcp|tls)://)?(?P<host>[^/]+):(?P<port>\d+)")


class _Beside(WorkerPlugin):
    """On every worker, also those that join later: modules beside the scenario are found, such as a policy's."""

    name = "simqueue"

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def setup(self, worker: Any) -> None:
        if self.folder not in sys.path:
            sys.path.append(self.folder)


@contextmanager
def connected(address: str, folder: Path) -> Iterator[tuple[Executor, int]]:
    """The cluster whose scheduler has this address, and how many tasks it can run at a time. Tasks that are still there
    when the block ends are withdrawn.

    Args:
        address: such as ``tcp://host:8786``.
        folder: the scenario's; modules in it are found there too.

    Raises:
        ConfigError: it cannot be reached, has no workers, or runs other versions.
    """
    with warnings.catch_warnings():
        # It compares versions of its own, and warns; we refuse.
        warnings.simplefilter("ignore")
        client = _client(address)
    _hush()
    executor = None
    try:
        _refuse_empty(client, address)
        _refuse_strangers(client, address)
        client.register_plugin(_Beside(folder))
        executor = client.get_executor(pure=False)
        yield executor, max(1, sum(client.nthreads().values()))
    finally:
        if executor is not None:
            executor.shutdown(wait=False)
        client.close(timeout=_PATIENCE_S)


def _client(address: str) -> Any:
    """Raises ConfigError within seconds."""
    found: list[Any] = []
    made: Any = Client

    def connect() -> None:
        with suppress(Exception):
            found.append(made(address, set_as_default=False))

    _refuse_unreachable(address)
    # Dask waits for ever for somebody who listens and does not answer.
    trying = threading.Thread(target=connect, daemon=True)
    trying.start()
    trying.join(_PATIENCE_S)
    if not found:
        raise _unreachable(address, "nobody there speaks Dask")
    return found[0]


def _hush() -> None:
    """What Dask has to say of workers and schedulers that are gone is said here in a line."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _refuse_unreachable(address: str) -> None:
    """Dask would try again and again, and not say why."""
    place = _ADDRESS.fullmatch(address)
    if place is None:
        raise _unreachable(address, "it is no tcp://HOST:PORT")
    try:
        socket.create_connection((place["host"].strip("[]"), int(place["port"])), _PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from None


def _unreachable(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"--cluster {address}: cannot be reached ({why}): give the address that `dask scheduler` prints, and see that "
        "it is running"
    )


def _refuse_empty(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError:
        raise ConfigError(
            f"--cluster {address}: has no workers: start some with `dask worker {address} --nthreads 1`"
        ) from None


def _refuse_strangers(client: Any, address: str) -> None:
    """A scheduler reads tasks too. Workers that have gone meanwhile do not matter."""
    found = {f"worker {at}": there for at, there in client.run(versions, on_error="return").items()}
    try:
        found["scheduler"] = client.run_on_scheduler(versions)
    except Exception as error:
        found["scheduler"] = error
    for who, there in found.items():
        if not isinstance(there, OSError):
            _refuse_stranger(f"--cluster {address}: its {who}", there)


def _refuse_stranger(who: str, there: Mapping[str, str] | Exception) -> None:
    if isinstance(there, Exception):
        ours = f"simqueue {versions()['simqueue']}"
        raise ConfigError(f"{who} has no such simqueue ({_one_line(there)}): install {ours} there")
    for what, here in versions().items():
        if (theirs := there.get(what)) != here:
            raise ConfigError(f"{who} has {what} {theirs}, and here it is {here}: install the same on both")


def _one_line(error: Any) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
