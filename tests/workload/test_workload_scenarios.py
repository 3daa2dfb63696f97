"""Workloads as scenarios describe them: the documented ones, and what is wrong in others."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from simqueue import Affine, Continuous, System, simulate
from simqueue.config import load
from simqueue.errors import SimqueueError, WorkloadError
from simqueue.estimate import refuse_if_too_much
from simqueue.plot.caption import of_sweep
from simqueue.sweep import plan
from simqueue.sweep.cells import Cell, Plan
from simqueue.sweep.content import Content
from simqueue.workload import (
    Batches,
    ClientClass,
    Fixed,
    GeometricCount,
    LognormalThink,
    Poisson,
    Sessions,
    WorkloadSpec,
    make_workload,
)

DOCS = Path(__file__).parents[2] / "docs" / "workloads.md"
SYSTEM = """
[system]
policy = { kind = "continuous", max_seqs = 8 }
cost = { kind = "affine", base_s = 0.001, per_row_s = 0.0001 }
"""
LENGTHS = "prompt_tokens = { kind = 'fixed', value = 3 }\noutput_tokens = { kind = 'fixed', value = 2 }\n"
THREE = f"requests = 3\n{LENGTHS}"


def documented() -> list[str]:
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", DOCS.read_text(), re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in blocks if "requests =" in block]


def scenario(folder: Path, workload: str) -> Path:
    path = folder / "scenario.toml"
    path.write_text(f"[workload]\n{workload}\n{SYSTEM}")
    return path


def classes(*further: str) -> str:
    return "requests = 40\n" + "".join(
        f"[[workload.classes]]\nname = '{name}'\n{LENGTHS}{text}\n" for name, text in zip("ab", further, strict=False)
    )


POISSON = "arrivals = { kind = 'poisson', rate = 2 }"


def public(folder: Path) -> Path:
    """A folder with small files of the names that the page has, in their formats."""
    clients = folder / "ServeGen" / "data" / "language" / "m-large"
    clients.mkdir(parents=True)
    (clients / "chunk-4-trace.csv").write_text("0,9,1,,0,0\n72000,2.5,1,Weibull,0.9,0.4\n")
    dataset = '{"0": {"input_tokens": "{50: 1.0}", "output_tokens": "{10: 0.5, 60: 0.5}"}}'
    (clients / "chunk-4-dataset.json").write_text(dataset)
    talk = '{"conversations": [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "It is a queue."}]}'
    (folder / "ShareGPT_V3_unfiltered_cleaned_split.json").write_text(f"[{talk}]")
    rows = [f"2023-11-16 18:{i // 60:02}:{i % 60:02}.0000000,374,{i + 1}\n" for i in range(300)]
    recorded = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows)
    (folder / "AzureLLMInferenceTrace_conv.csv.gz").write_bytes(gzip.compress(recorded.encode()))
    return folder


@pytest.mark.parametrize("block", documented(), ids=lambda block: block.splitlines()[-2][:20])
def test_documented_workloads_run(tmp_path: Path, block: str) -> None:
    told = re.sub("10000|20_000", "300", block).replace('tokenizer = "gpt2"', "characters_per_token = 2")
    path = public(tmp_path) / "scenario.toml"
    path.write_text(told + SYSTEM)
    made = load(path)
    result = simulate(make_workload(made.workload, 0, tmp_path), made.system)
    assert len(result.arrival) == 300
    assert result.summary()["requests"] == 300


def test_all_kinds_are_documented() -> None:
    assert len(documented()) == 7


def test_tables_become_the_objects_that_they_name(tmp_path: Path) -> None:
    batches = "{ kind = 'batches', of = { kind = 'poisson', rate = 2 }, size = { kind = 'geometric', mean = 3 } }"
    told = load(scenario(tmp_path, classes(POISSON, f"arrivals = {batches}\npriority = 4\nttft_slo_s = 1"))).workload
    lengths = {"prompt_tokens": Fixed(value=3), "output_tokens": Fixed(value=2)}
    assert told == WorkloadSpec(
        requests=40,
        classes=(
            ClientClass(name="a", arrivals=Poisson(2.0), **lengths),
            ClientClass(
                name="b", arrivals=Batches(Poisson(2.0), GeometricCount(3.0)), priority=4, ttft_slo_s=1.0, **lengths
            ),
        ),
    )
    sessions = "{ kind = 'sessions', rate = 2, turns = 3, think_s = { kind = 'lognormal', mean = 2, cv = 1 } }"
    told = load(scenario(tmp_path, f"requests = 9\n{LENGTHS}patience_s = 4\narrivals = {sessions}")).workload
    assert told.arrivals == Sessions(2.0, 3, LognormalThink(2.0, 1.0))
    assert told.patience_s == 4


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (THREE, "workload: the key 'arrivals' is missing; there are constant, poisson"),
        ("classes = 3", r"workload.classes = 3 is no list of tables: write \[\[workload.classes\]\]"),
        ("classes = []", r"workload.classes = \[\] is no list of tables"),
        ("classes = [3]", r"workload.classes\[0\] = 3 is not a table"),
        (classes(POISSON, "priorty = 3"), r"workload.classes\[1\]: unknown key 'priorty'; did you mean 'priority'\?"),
        (
            classes(POISSON, "name = 3").replace("name = 'b'\n", ""),
            r"workload.classes\[1\].name = 3 is an integer: give",
        ),
        (classes(POISSON, ""), r"workload.classes\[1\]: class b: arrivals missing"),
        (
            classes(POISSON, f"{POISSON}\npriority = 'high'"),
            r"classes\[1\].priority = 'high' is a string: give an integer",
        ),
        (
            classes(POISSON, f"{POISSON}\npatience_s = {{ kind = 'fixd' }}"),
            r"classes\[1\].patience_s: unknown kind 'fixd'",
        ),
        (
            classes("arrivals = { kind = 'poison' }"),
            r"classes\[0\].arrivals: unknown kind 'poison'; did you mean 'poisson'",
        ),
        (
            classes("arrivals = { kind = 'users', users = 3 }"),
            r"\[0\]: class a: arrivals of kind 'users' cannot be one",
        ),
        (POISSON + "\n" + classes(POISSON), "workload: arrivals given beside classes"),
        (classes(POISSON).replace("requests = 40", ""), "workload: requests missing"),
        (
            f"{THREE}arrivals = {{ kind = 'batches', of = {{ kind = 'users', users = 3 }}, size = 2 }}",
            "workload.arrivals.of: unknown kind 'users'; there are constant, poisson, gamma, varying, sinusoidal, mmpp",
        ),
        (
            f"{THREE}[workload.arrivals]\nkind = 'batches'\nof = {{ kind = 'poisson', rate = 1 }}\nsize = 0",
            "workload.arrivals: size = 0 is not a whole number",
        ),
        (
            f"{THREE}[workload.arrivals]\nkind = 'sessions'\nrate = 1\nturns = {{ kind = 'geometric', mean = 0 }}",
            "workload.arrivals.turns: mean = 0.0 is not a number from 1",
        ),
        (f"{THREE}arrivals = {{ kind = 'sessions', rate = 1 }}", "the key 'turns' is missing"),
        (
            f"{THREE}{POISSON}\nmax_output_tokens = 'x'",
            "workload: max_output_tokens = 'x' is not a whole",
        ),
        (f"{THREE}{POISSON}\nttft_slo_s = 'x'", "workload: ttft_slo_s = 'x' is not a positive"),
        ("ttft_slo_s = 1\n" + classes(POISSON), "workload: ttft_slo_s given beside classes, of which each has its own"),
        (f"{THREE}{POISSON}\nprediction = -1", "workload: prediction = -1 is not a number from 0"),
        (
            f"{THREE}{POISSON}\npatience_s = {{ kind = 'fixed', value = 0 }}",
            r"workload: patience_s = 0\.0",
        ),
        (
            "arrivals = { kind = 'trace', path = 'x.csv', speed = 0 }",
            r"workload.arrivals: speed = 0\.0 is not a positive",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path: Path, workload: str, message: str) -> None:
    with pytest.raises(SimqueueError, match=message) as caught:
        load(scenario(tmp_path, workload))
    assert "\n" not in str(caught.value)


def cells(**workload: object) -> tuple[Cell, ...]:
    return planned(**workload).cells


def planned(**workload: object) -> Plan:
    lengths = {"prompt_tokens": {"kind": "fixed", "value": 3}, "output_tokens": {"kind": "fixed", "value": 2}}
    system = {"policy": {"kind": "none"}, "cost": {"kind": "affine", "base_s": 0.001}}
    sweep = {"load": [0.2, 0.5]} | workload.pop("sweep", {})  # type: ignore[operator]
    parts = workload if "classes" in workload else lengths | workload
    return plan({"workload": {"requests": 50, **parts}, "system": system, "sweep": sweep}, Path("s.toml"))


def test_a_load_may_be_swept_over_classes_and_sessions() -> None:
    lengths = {"prompt_tokens": {"kind": "fixed", "value": 3}, "output_tokens": {"kind": "fixed", "value": 2}}
    one = {"name": "a", "arrivals": {"kind": "poisson", "rate": 1.0}, **lengths}
    told = cells(classes=[one, one | {"name": "b"}])
    assert len({Content.of(cell.scenario).saturation for cell in told}) == 1
    sessions = {"kind": "sessions", "rate": 1.0, "turns": 3}
    swept = cells(arrivals=sessions, sweep={"workload.arrivals.turns": [1, 4]})
    # Prompts add up with turns, and saturation depends on them.
    assert len({Content.of(cell.scenario).saturation for cell in swept}) == 2


def test_a_figure_tells_the_classes_and_no_rate_that_its_axis_shows() -> None:
    lengths = {"prompt_tokens": {"kind": "fixed", "value": 3}, "output_tokens": {"kind": "fixed", "value": 2}}
    classes = [{"name": name, "arrivals": {"kind": "poisson", "rate": 1.0}, **lengths} for name in ("chat", "code")]
    assert "\nclasses chat, code, 50 requests a run" in of_sweep(planned(classes=classes))
    batches = {"kind": "batches", "of": {"kind": "poisson", "rate": 1.0}, "size": 4}
    assert "arrivals batches (of poisson, size 4), 50" in of_sweep(planned(arrivals=batches))


def estimated(system: System, **parts: object) -> str:
    lengths = {"prompt_tokens": Fixed(value=100), "output_tokens": Fixed(value=500)}
    spec = WorkloadSpec(requests=10**10, **parts | ({} if "classes" in parts else lengths))  # type: ignore[arg-type]
    with pytest.raises(WorkloadError) as caught:
        refuse_if_too_much(spec, system)
    return str(caught.value)


def hours(message: str) -> float:
    return float(message.partition("would take about ")[2].split()[0])


def gigabytes(message: str) -> float:
    return float(message.partition(" hours (1 is the most) and ")[2].split()[0])


def test_the_estimate_counts_classes_by_their_rates_and_outputs_as_they_are_cut() -> None:
    system = System(Continuous(1), Affine(base_s=0.001))
    short, long = (
        ClientClass(name=str(n), arrivals=Poisson(rate), prompt_tokens=Fixed(value=1), output_tokens=Fixed(value=n))
        for n, rate in ((100, 3.0), (900, 1.0))
    )
    base = estimated(system, arrivals=Poisson(1.0))
    assert hours(estimated(system, classes=(short, long))) == pytest.approx(
        hours(base) * (10 + 0.6 * 300) / (10 + 0.6 * 500), rel=0.01
    )
    cut = estimated(system, arrivals=Poisson(1.0), max_output_tokens=50)
    assert hours(cut) == pytest.approx(hours(base) * (10 + 0.6 * 50) / (10 + 0.6 * 500), rel=0.01)
    assert hours(estimated(system, arrivals=Batches(Poisson(1.0), 4))) == hours(base)


def test_the_estimate_says_how_long_sessions_are() -> None:
    told = estimated(System(Continuous(1), Affine(base_s=0.001)), arrivals=Sessions(1.0, GeometricCount(1e9)))
    assert told.startswith("workload.requests = 10000000000 in sessions of 1e+09 turns would take about ")
    assert re.search(r": ask for fewer turns, or at most \d+$", told)


@pytest.mark.statistical
@pytest.mark.parametrize("turns", [4, GeometricCount(4.0)], ids=str)
def test_the_estimate_counts_the_blocks_of_sessions(turns: int | GeometricCount) -> None:
    """Against the text that there is, of conversations that begin afresh."""
    system = System(Continuous(1), Affine(base_s=0.001))
    arrivals = Sessions(1.0, turns, 0.0, 1000)
    more = gigabytes(estimated(system, arrivals=arrivals)) - gigabytes(estimated(system, arrivals=Poisson(1.0)))
    lengths = {"prompt_tokens": Fixed(value=100), "output_tokens": Fixed(value=500)}
    made = make_workload(WorkloadSpec(requests=4000, arrivals=arrivals, **lengths), 1)
    blocks = [len(text.split()) for text in made.extra["hash_ids"]]
    assert more * 1e9 / 1e10 == pytest.approx(9 * sum(blocks) / len(blocks), rel=0.1)
