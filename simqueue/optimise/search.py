"""Who says which points to try next: all of them in order, or a sampler that learns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from simqueue.errors import ConfigError
from simqueue.optimise.space import Number, Point, Range, Space

if TYPE_CHECKING:
    import optuna

_STARTUP = 16


class Worth(NamedTuple):
    """What a sampler is told of a point.

    Attributes:
        score: the larger the better; a whole number, so that what is the same to the precision is the same.
        latency: the smaller the better.
        violation: how far beyond its limits it is; 0 if it keeps them.
    """

    score: float
    latency: float
    violation: float


class Search(Protocol):
    """Asked for points, told what they are worth, in the same order."""

    def ask(self, count: int) -> list[Point]:
        """So many points to try next, or fewer if there are no more."""

    def tell(self, worths: Sequence[Worth]) -> None:
        """What each of the points asked for last is worth."""


class Whole:
    """Every point of a small space."""

    def __init__(self, space: Space) -> None:
        self._points: Iterator[Point] = space.each()

    def ask(self, count: int) -> list[Point]:
        """See `Search`."""
        return list(islice(self._points, count))

    def tell(self, worths: Sequence[Worth]) -> None:
        """See `Search`."""


class Sampled:
    """A sampler that learns, by Optuna.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._asked = space, list[Any]()
        with _quiet() as optuna:
            self._study = self._made(optuna, seed % 2**32)

    def ask(self, count: int) -> list[Point]:
        """See `Search`."""
        with _quiet():
            self._asked = [self._study.ask() for _ in range(count)]
            return [self._space.point(_Drawn(trial)) for trial in self._asked]

    def tell(self, worths: Sequence[Worth]) -> None:
        """See `Search`."""
        with _quiet():
            for trial, worth in zip(self._asked, worths, strict=True):
                trial.set_user_attr("violation", worth.violation)
                self._study.tell(trial, self._values(worth))

    def _made(self, optuna: Any, seed: int) -> Any:
        """A tree-structured Parzen estimator of two objectives under constraints (Bergstra et al., "Algorithms for
        hyper-parameter optimization", NIPS 2011; Ozaki et al., "Multiobjective tree-structured Parzen estimator", JAIR
        73, 2022). Parameters are drawn together; those of one option of a choice are a group of their own. It was
        chosen by trying: docs/optimise.md."""
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=_STARTUP,
            multivariate=True,
            group=True,
            constant_liar=True,
            constraints_func=violation_of,
            seed=seed,
        )
        return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    @staticmethod
    def _values(worth: Worth) -> list[float]:
        return [worth.score, worth.latency]


def violation_of(trial: optuna.trial.FrozenTrial) -> tuple[float]:
    """What a sampler takes as its constraint: 0 or less is kept."""
    return (trial.user_attrs["violation"],)


class _Drawn(NamedTuple):
    """Draws by a trial of Optuna."""

    trial: optuna.trial.Trial

    def number(self, name: str, of: Range) -> Number:
        if of.whole:
            return self.trial.suggest_int(name, int(of.low), int(of.high), log=of.log)
        return self.trial.suggest_float(name, of.low, of.high, log=of.log)

    def word(self, name: str, words: Sequence[str]) -> str:
        return str(self.trial.suggest_categorical(name, list(words)))


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna, that says nothing: what is experimental in one version of it is deprecated in another."""
    try:
        import optuna
    except ImportError:
        raise ConfigError('optimise needs Optuna, which is not installed: pip install "simqueue[study]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield optuna
