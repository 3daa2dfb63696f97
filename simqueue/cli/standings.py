"""What `simqueue compare` says of scenarios: sentences and tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from simqueue.cli.table import readable, two_digits

if TYPE_CHECKING:
    from rich.table import Table

    from simqueue.ranking.paired import Difference
    from simqueue.ranking.ranking import Ranking, Worse

# Pairing that saves less is not worth a word.
_SAVES = 1.1
# 0.001 %
_NEGLIGIBLE = 1e-5


def show(ranking: Ranking) -> None:
    """The answer in sentences, and what it rests on as a table: of two all figures, of several their ranks."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in words(ranking):
        console.print("\n".join(wrap(line, console.width)), markup=False)
    console.print(_differences(ranking) if len(ranking.names) == 2 else _ranks(ranking))
    for name, text in _explained(ranking):
        console.print(f"  {name:<11}{text}", markup=False)


def words(ranking: Ranking) -> Iterator[str]:
    """The answer in sentences."""
    unstable = [name for number, name in enumerate(ranking.names) if ranking.unstable(number)]
    yield from _of_two(ranking) if len(ranking.names) == 2 and not unstable else _of_several(ranking)
    if unstable:
        yield f"UNSTABLE: {_listed(unstable)}: the queue grows. Figures are of these runs alone, no steady state."
    if not any(each.random for each in ranking.contest.runs):
        yield "Nothing here is random: all replications are one run, and differences are exact."
    elif (ratio := ranking.variance_ratio) is not None:
        yield from _doubts(ranking)
        yield from [_saved(ratio)] if math.isfinite(ratio) else []


def _doubts(ranking: Ranking) -> Iterator[str]:
    doubts = {number: ranking.doubt(number) for number in ranking.selection.open}
    for reason in dict.fromkeys(filter(None, doubts.values())):
        whose = _listed([ranking.names[number] for number, doubt in doubts.items() if doubt == reason])
        yield f"The runs of {whose} are too short to believe that: {reason}. Longer ones would do."


def _of_two(ranking: Ranking) -> Iterator[str]:
    (first, second), criterion = ranking.names, ranking.contest.criterion
    found = ranking.difference(criterion.path, 0, 1)
    assert found is not None
    what = f"{second}'s {criterion.words}"
    if found.apart:
        yield f"{what} is {_apart(found, criterion.is_time)} than {first}'s{_range(found, criterion.is_time)}."
    elif not found.value and not found.half_width:
        yield f"{what} is the same as {first}'s in every replication."
    else:
        yield f"Not told apart {_after(ranking)}: {what} is {_either(found)} than {first}'s."
        if ranking.decided:
            yield f"That does not matter: {ranking.best} is at most {_share(_at_most(ranking))} worse."


def _of_several(ranking: Ranking) -> Iterator[str]:
    best, left = ranking.best, [ranking.names[number] for number in ranking.selection.open]
    others = [name for name in left if name != best]
    if not others:
        yield f"{best} is best with 95 % confidence."
    elif not _at_most(ranking):
        yield f"{best} is best with 95 % confidence, and {_listed(others)} no different in any replication."
    elif ranking.decided:
        yield (
            f"{best} is best, or at most {_share(_at_most(ranking))} worse than the best, with 95 % confidence; it "
            f"cannot be told from {_listed(others)}."
        )
    else:
        most = _at_most(ranking)
        how = f"is at most {_share(most)} worse than the best" if math.isfinite(most) else "may be any amount worse"
        yield f"{_listed(left)} cannot be told apart {_after(ranking)}. {best} looks best, and {how}."
    told = [(ranking.worse(number), name) for number, name in enumerate(ranking.names) if name not in left]
    if known := [f"{name} is {_by(worse)} worse" for worse, name in sorted(told) if math.isfinite(worse.value)]:
        yield f"{'; '.join(known)}."


def _apart(found: Difference, is_time: bool) -> str:
    """``12 ms (8 %) lower``."""
    share = abs(found.relative or 0.0)
    return f"{_amount(is_time)(abs(found.value))} ({_share(share)}) {'lower' if found.value < 0 else 'higher'}"


def _range(found: Difference, is_time: bool) -> str:
    """``, between 9 ms and 15 ms (6 and 10 %)``; shares alone where the difference itself has no such interval."""
    if not found.half_width or found.relative_ends is None:
        return ""
    shares = " and ".join(_percent(end) for end in sorted(map(abs, found.relative_ends)))
    if not found.half_width < abs(found.value):
        return f", between {shares} %"
    ends = (_amount(is_time)(abs(found.value) + side * found.half_width) for side in (-1, 1))
    return f", between {' and '.join(ends)} ({shares} %)"


def _either(found: Difference) -> str:
    """``between 1.2 % lower and 0.8 % higher``."""
    if found.relative_ends is None or not all(map(math.isfinite, found.relative_ends)):
        return "any amount lower or higher"
    low, high = found.relative_ends
    return f"between {_share(-low)} lower and {_share(high)} higher"


def _by(worse: Worse) -> str:
    """``30 to 34 %``."""
    return f"{_percent(worse.least)} to {_percent(worse.most)} %" if math.isfinite(worse.most) else "any amount"


def _at_most(ranking: Ranking) -> float:
    return ranking.worse(ranking.selection.best).most


def _saved(ratio: float) -> str:
    if ratio < _SAVES:
        return "Common random numbers saved nothing here."
    return f"Without common random numbers it would take {two_digits(ratio)} times as many replications."


def _after(ranking: Ranking) -> str:
    found = ranking.found(ranking.selection.best)
    return f"after {found.replications} replications" if found.replications > 1 else "in one run"


def _ranks(ranking: Ranking) -> Table:
    """A row a competitor, the best first."""
    criterion = ranking.contest.criterion
    table = _table("", criterion.name, "worse, %", "95 %", "runs", "")
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for number in sorted(range(len(ranking.names)), key=lambda number: ranking.worse(number).value):
        figure, worse = ranking.figure(number), ranking.worse(number)
        shown = f"{_amount(criterion.is_time)(figure.value)} ± {_half(figure.half_width, criterion.is_time)}"
        cells = (shown, *_shares(worse), f"{ranking.found(number).replications}", _note(ranking, number))
        table.add_row(ranking.names[number], *cells)
    return table


def _shares(worse: Worse) -> tuple[str, str]:
    if not math.isfinite(worse.value):
        return "", ""
    return _percent(worse.value), f"{_percent(worse.least)} to {_percent(worse.most)}"


def _note(ranking: Ranking, number: int) -> str:
    if ranking.unstable(number):
        return "UNSTABLE"
    place = "best" if number == ranking.selection.best else "best?" if number in ranking.selection.open else ""
    return f"{place} too short".strip() if ranking.doubt(number) else place


def _differences(ranking: Ranking) -> Table:
    """A row a figure."""
    from simqueue.ranking.shown import shown

    first, second = ranking.names
    table = _table("", "", first, second, "difference", "%", "95 %", "")
    table.columns[1].justify = "left"
    before = ""
    for row in shown(ranking):
        table.add_row("" if row.of == before else row.of, row.statistic, *_row(row.difference, row.is_time))
        before = row.of
    return table


def _row(found: Difference, is_time: bool) -> tuple[str, ...]:
    amount = _amount(is_time)
    alike = not found.value or (found.relative is not None and abs(found.relative) < _NEGLIGIBLE)
    change = "0" if alike else f"{'-' if found.value < 0 else '+'}{amount(abs(found.value))}"
    star = "*" if found.apart else ""
    return amount(found.first), amount(found.second), change, _change(found.relative), _ends(found), star


def _ends(found: Difference) -> str:
    """Of the interval of the share; where there are no shares half of that of the difference."""
    if found.relative_ends is None:
        return f"± {_digits(found.half_width)} s" if found.half_width else ""
    if max(map(abs, found.relative_ends)) < _NEGLIGIBLE:
        return ""
    return " to ".join(map(_change, found.relative_ends))


def _change(share: float | None) -> str:
    if share is None:
        return ""
    return f"{'-' if share < 0 else '+'}{_percent(abs(share))}" if abs(share) >= _NEGLIGIBLE else "0"


def _explained(ranking: Ranking) -> Iterator[tuple[str, str]]:
    """How to read the table."""
    best = ranking.found(ranking.selection.best)
    if len(ranking.names) == 2:
        first, second = ranking.names
        yield "difference", f"{second} - {first}; in % of {first}, with its interval"
        yield "*", "beyond doubt: 0 lies outside"
    else:
        yield "worse", "than the one that looks best; the interval: than the true best"
    parts = f"{best.replications} replications" if best.replications > 1 else f"{len(best.parts)} sections of one run"
    looks = f" at {len(ranking.looks)} looks" if len(ranking.looks) > 1 else ""
    yield "intervals", f"paired, from {parts}; all hold together{looks} with 95 %"
    if best.warmup.requests:
        yield "left out", f"the first {best.warmup.requests} requests of each run"


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=True, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.columns[0].justify = table.columns[-1].justify = "left"
    return table


def _amount(is_time: bool) -> Callable[[float], str]:
    return (lambda value: readable(value, _digits)) if is_time else _digits


def _half(width: float, is_time: bool) -> str:
    return readable(width, two_digits) if is_time and math.isfinite(width) else two_digits(width)


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _percent(share: float) -> str:
    return two_digits(100 * share) if share >= _NEGLIGIBLE else "0"


def _share(share: float) -> str:
    return f"{_percent(share)} %"


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
