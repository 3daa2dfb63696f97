"""ServeGen's clients: as many requests as were counted, by the laws that were fitted, of the lengths that were seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue.errors import WorkloadError
from simqueue.workload import Trace, TraceWarning, Workload, WorkloadSpec, make_workload
from simqueue.workload.formats import detected
from simqueue.workload.servegen import Window

# In the form of the public files: begin, requests/s, cv, law, shape, scale.
BURSTY = [
    (0, 1.3316666666666668, 8.598383725990791, "Weibull", 0.3753486140101707, 0.3967677807107179),
    (600, 0, 0, "", 0, 0),
    (1200, 0.15, 4.068197850957398, "Gamma", 0.060422107316638725, 103.65095274189687),
]
STEADY = [
    (0, 1.1666666666666667, 0.9812997595412902, "Gamma", 1.0384763614345214, 0.8245559198741792),
    (600, 1.105, 1.0234423521079221, "Gamma", 0.9547138658547358, 0.9482064663813097),
    (1200, 0.64, 1.0495427677519221, "Weibull", 1.0269980493187594, 1.7057127973248827),
]
LENGTHS: dict[str, Any] = {
    "0": {"input_tokens": "{45: 0.25, 46: 0.75}", "output_tokens": "{7: 1.0}", "reason_ratio": "{0.001: 1.0}"},
    "1200": {"input_tokens": "{900: 1.0}", "output_tokens": "{8: 0.5, 9: 0.5}"},
    "1800": {"input_tokens": "{}", "output_tokens": "{}"},
}
SIGMAS = 4.0


def client(folder: Path, number: int, windows: Any, lengths: Any = LENGTHS) -> Path:
    """The two files of a client."""
    rows = "".join(",".join(map(str, row)) + "\n" for row in windows)
    (folder / f"chunk-{number}-trace.csv").write_text(rows)
    (folder / f"chunk-{number}-dataset.json").write_text(lengths if isinstance(lengths, str) else json.dumps(lengths))
    return folder


def load(folder: Path, seed: int = 0, requests: int | None = None, **options: Any) -> Workload:
    return make_workload(WorkloadSpec(requests=requests, arrivals=Trace(str(folder), **options)), seed)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return client(client(tmp_path, 0, BURSTY), 12, STEADY)


def counts(workload: Workload, name: str) -> list[int]:
    arrival_s = workload.arrival_s[workload.extra["client"] == name]
    return np.histogram(arrival_s, bins=[0, 600, 1200, 1800])[0].tolist()


def test_every_window_has_the_requests_that_were_counted_in_it(two: Path) -> None:
    assert detected(two) == "servegen"
    workload = load(two)
    assert counts(workload, "chunk-0") == [799, 0, 90]
    assert counts(workload, "chunk-12") == [700, 663, 384]
    assert len(workload) == 799 + 90 + 700 + 663 + 384
    assert load(two, format="servegen") == workload
    assert load(two, seed=1) != workload


def test_lengths_are_those_known_at_the_time(two: Path) -> None:
    workload = load(two)
    early = workload.arrival_s < 1200
    assert set(workload.prompt_tokens[early]) == {45, 46}
    assert set(workload.output_tokens[early]) == {7}
    assert set(workload.prompt_tokens[~early]) == {900}
    assert set(workload.output_tokens[~early]) == {8, 9}
    share, count = float(np.mean(workload.prompt_tokens[early] == 45)), int(early.sum())
    assert abs(share - 0.25) <= SIGMAS * math.sqrt(0.25 * 0.75 / count)


def test_what_comes_before_the_first_lengths_has_those(tmp_path: Path) -> None:
    late = {"0": {"input_tokens": "{3: 1.0}", "output_tokens": "{}"}, "1200": LENGTHS["1200"]}
    workload = load(client(tmp_path, 0, STEADY, late))
    assert set(workload.prompt_tokens) == {900}


def test_a_share_of_no_tokens_is_left_out_with_a_warning(tmp_path: Path) -> None:
    failing = {"0": {"input_tokens": "{0: 0.2, 5: 0.3, 6: 0.3}", "output_tokens": "{7: 1.0}"}}
    client(tmp_path, 3, STEADY, failing)
    with pytest.warns(TraceWarning, match=r'chunk-3-dataset.json, "0", "input_tokens": a share of 0.25 has 0 tokens'):
        workload = load(tmp_path)
    assert set(workload.prompt_tokens) == {5, 6}
    assert len(workload) == 700 + 663 + 384


def test_fewer_requests_are_the_first_of_all_of_them(two: Path) -> None:
    every = load(two)
    for requests in (1, 700, 1500, len(every)):
        assert load(two, requests=requests) == every.head(requests)
    with pytest.raises(WorkloadError, match=r"requests = 2637, but .* has 2636 rows; ask for at most 2636"):
        load(two, requests=2637)


def test_another_client_changes_nobody_elses_requests(two: Path) -> None:
    both = load(two)
    for path in two.glob("chunk-0-*"):
        path.unlink()
    own = both.extra["client"] == "chunk-12"
    assert load(two) == Workload.of({name: column[own] for name, column in both.columns.items()}, {})


def test_it_begins_where_it_is_told_to_and_counts_from_there(two: Path) -> None:
    later = load(two, begin_s=600.0)
    assert counts(later, "chunk-12") == [663, 384, 0]
    assert counts(later, "chunk-0") == [0, 90, 0]
    inside = load(two, begin_s=300.0, requests=400)
    assert 0 <= inside.arrival_s[0] < 10
    assert inside.arrival_s[-1] < 900
    with pytest.raises(WorkloadError, match=r"nobody sends anything after begin_s = 1800; begin earlier"):
        load(two, begin_s=1800.0)


def test_it_is_replayed_at_another_speed_or_rate_like_any_trace(two: Path) -> None:
    slow, quick = load(two), load(two, speed=4.0)
    np.testing.assert_allclose(quick.arrival_s, slow.arrival_s / 4)
    assert quick.at_rate(100.0).rate == pytest.approx(100.0)


@settings(max_examples=50)
@given(st.integers(1, 400), st.sampled_from(("Gamma", "Weibull")), st.floats(1e-3, 50.0), st.integers(0, 99))
def test_arrivals_are_inside_their_window_in_order(requests: int, law: str, shape: float, seed: int) -> None:
    times = Window(600, 1800, requests, law, shape).times(np.random.default_rng(seed))
    assert len(times) == requests
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 600
    assert times[-1] <= 1800


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [0.06, 1.0, 4.0])
def test_gamma_gaps_that_fill_a_window_are_dirichlet(shape: float) -> None:
    """Of m gaps with shape a each is a Beta(a, (m - 1) a) share of the window: cv**2 = (m - 1) / (m a + 1)."""
    gaps = 101
    rng = np.random.default_rng(3)
    draws = [np.diff(Window(0, 600, gaps - 1, "Gamma", shape).times(rng), prepend=0.0) for _ in range(2000)]
    squares = np.array([np.mean((each / (600 / gaps) - 1) ** 2) for each in draws])
    wanted = (gaps - 1) / (gaps * shape + 1)
    assert abs(squares.mean() - wanted) <= SIGMAS * squares.std() / math.sqrt(len(draws))


@pytest.mark.statistical
def test_weibull_gaps_have_the_cv_of_their_shape() -> None:
    """cv**2 = G(1 + 2/k) / G(1 + 1/k)**2 - 1; with so many gaps the window cuts next to nothing off."""
    shape, batches = 0.8, 200
    rng = np.random.default_rng(4)
    cvs = []
    for _ in range(batches):
        gaps = np.diff(Window(0, 600, 5000, "Weibull", shape).times(rng))
        cvs.append(gaps.var() / gaps.mean() ** 2)
    wanted = math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1
    # The mean of a ratio of 5,000 gaps is off by about kurtosis / 5,000 of itself.
    assert abs(np.mean(cvs) - wanted) <= SIGMAS * np.std(cvs) / math.sqrt(batches) + wanted * 20 / 5000


TRACE, DATASET = "chunk-5-trace.csv", "chunk-5-dataset.json"


@pytest.mark.parametrize(
    ("windows", "lengths", "words"),
    [
        ([(0, 1, 1, "Gamma", 1)], LENGTHS, f"{TRACE}, line 1: 5 values in a file of 6 columns"),
        ([(0, 1, 1, "Pareto", 1, 1)], LENGTHS, f"{TRACE}, line 1, law: 'Pareto' is unknown; give Gamma or Weibull"),
        ([(0, -1, 1, "Gamma", 1, 1)], LENGTHS, f"{TRACE}, line 1, rate: '-1' is no finite number"),
        ([(0, 1, 1, "Gamma", 0, 1)], LENGTHS, f"{TRACE}, line 1, shape: a Gamma law has no shape 0"),
        ([(0.5, 1, 1, "Gamma", 1, 1)], LENGTHS, f"{TRACE}, line 1, begin: '0.5' is no time"),
        ([STEADY[1], STEADY[0]], LENGTHS, f"{TRACE}: the window at 0 s comes after that at 600 s; sort them"),
        ([(0, 1e9, 1, "Gamma", 1, 1)], LENGTHS, "ask for at most"),
        ([(0, 0, 0, "", 0, 0)], LENGTHS, "nobody sends anything after begin_s = 0"),
        (STEADY, "[]", f"{DATASET}: Expected `object`, got `array`; a dataset of ServeGen is"),
        (STEADY, {"0": {"input_tokens": "{5: 1}"}}, f"{DATASET}: no window has both input_tokens and output_tokens"),
        (STEADY, {"noon": LENGTHS["0"]}, f'{DATASET}: the window "noon" has no time'),
        (STEADY, {"0": {**LENGTHS["0"], "input_tokens": "{5: x}"}}, "'{5: x}' is no distribution; write {tokens"),
        (STEADY, {"0": {**LENGTHS["0"], "input_tokens": "{-5: 1}"}}, '"0", "input_tokens": \'{-5: 1}\' is no distr'),
        (STEADY, {"0": {**LENGTHS["0"], "output_tokens": "{0: 1}"}}, "is no distribution; give tokens from 0"),
        (STEADY, "version https://git-lfs.github.com/spec/v1\n", f"{DATASET}: is a pointer of Git LFS"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, windows: Any, lengths: Any, words: str) -> None:
    client(tmp_path, 5, windows, lengths)
    with pytest.raises(WorkloadError) as refused:
        load(tmp_path)
    assert words in str(refused.value)


def test_a_folder_of_something_else_and_a_missing_dataset_are_refused(two: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(WorkloadError, match=r"no file chunk-\.\.\.-trace\.csv; give a trace's file, or the"):
            load(path, format="servegen")
    (two / "chunk-12-dataset.json").unlink()
    with pytest.raises(WorkloadError, match=r"chunk-12-dataset.json: no such file"):
        load(two)
