"""Prefill and decode on replicas of their own: equal to a slow reference, to stepping, and to the laws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from typer.testing import CliRunner

from simqueue import Affine, LognormalNoise, Memory, System, Workload, simulate
from simqueue.cli.main import app
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregated import simulate_disaggregated
from simqueue.cluster.disaggregated_result import DisaggregatedResult
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.failures import Failures
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.transfer import Transfer, served_in_turn
from simqueue.errors import ConfigError
from simqueue.order import Edf
from simqueue.policy import Continuous, FastServe, NoBatching, Orca, Sarathi, Sglang, Srpt, TensorrtLlm, Vllm

PS = 1e-12
TOKEN = 7
# So that a token in the cache is seven ticks on the link.
LINK = Transfer(gib_per_s=1.0, latency_s=13 * PS, kv_bytes_per_token=TOKEN * PS * 2**30)
PREFILL = Affine(base_s=1000 * PS, per_row_s=3 * PS, per_new_token_s=40 * PS)
DECODE = Affine(base_s=300 * PS, per_row_s=11 * PS, per_context_token_s=2 * PS, per_new_token_s=50 * PS)
DECODERS = [
    Vllm(64, 4),
    Vllm(5, 4),
    Sarathi(3, 8),
    Orca(4),
    TensorrtLlm("MAX_UTILIZATION", 4),
    FastServe(3, 2, 2, 8, "keep"),
    Srpt(3, "keep"),
]


@dataclass(frozen=True)
class Made:
    """A workload full of ties, in ticks."""

    arrivals: list[int]
    prompts: list[int]
    outputs: list[int]

    @property
    def workload(self) -> Workload:
        most = [output + 2 for output in self.outputs]
        columns = [a * PS for a in self.arrivals], self.prompts, self.outputs
        return Workload.from_columns(*columns, max_output_tokens=most, predicted_output_tokens=most)


@st.composite
def made(draw: st.DrawFn, longest: int = 12) -> Made:
    count = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))
    arrivals = (100 * np.cumsum(gaps)).tolist()
    prompts, outputs = (
        draw(st.lists(st.integers(1, most), min_size=count, max_size=count)) for most in (longest, longest)
    )
    return Made(arrivals, prompts, outputs)


def slowly(made: Made, seats: int) -> list[tuple[int, int, int]]:
    """Of each request first token, second (0 if there is none) and last: one that prefills one by one, one that decodes
    step by step; nothing here comes from the package."""
    free = link = 0
    first, there = [], []
    for arrival, prompt in zip(made.arrivals, made.prompts, strict=True):
        free = max(free, arrival) + 1000 + 3 + 40 * prompt
        first.append(free)
        if made.outputs[len(first) - 1] > 1:
            link = max(link, free) + TOKEN * prompt
        there.append(link + 13)
    second, last = [0] * len(first), list(first)
    line = [i for i, output in enumerate(made.outputs) if output > 1]
    emitted = dict.fromkeys(line, 1)
    now, running = 0, list[int]()
    while line or running:
        if not running:
            now = max(now, there[line[0]])
        while line and len(running) < seats and there[line[0]] <= now:
            running.append(line.pop(0))
        cached = sum(made.prompts[i] + emitted[i] - 1 for i in running)
        now += 300 + (11 + 50) * len(running) + 2 * cached
        for i in running:
            emitted[i] += 1
            second[i] = second[i] or now
            last[i] = now
        running = [i for i in running if emitted[i] < made.outputs[i]]
    return list(zip(first, second, last, strict=True))


@given(made(), st.integers(1, 4))
def test_equals_the_slow_reference(made: Made, seats: int) -> None:
    prefill = Cluster.of(1, System(NoBatching(), PREFILL), ShortestQueue())
    decode = Cluster.of(1, System(Vllm(64, seats), DECODE), ShortestQueue())
    result = simulate_disaggregated(made.workload, Disaggregation(prefill, decode, LINK))
    second = np.zeros(len(made.arrivals), np.int64)
    if result.decode:
        second[result.rows] = result.decode.first_token
    found = list(zip(result.first_token.tolist(), second.tolist(), result.finished.tolist(), strict=True))
    assert found == slowly(made, seats)


def pools(decoder: Any, blocks: int | None, replicas: int) -> Disaggregation:
    memory = None if blocks is None else Memory(block_size=4, num_blocks=blocks)
    prefill = System(Continuous(2), PREFILL, LognormalNoise(0.2))
    decode = System(decoder, DECODE, LognormalNoise(0.2), memory=memory)
    return Disaggregation(Cluster.of(replicas, prefill, ShortestQueue()), Cluster.of(2, decode, LeastTokens()), LINK)


def check_laws(result: DisaggregatedResult) -> None:
    """Each token once, nobody before its cache is there, and the times add up."""
    outputs, done = result.workload.output_tokens, result.outcome == 0
    assert (result.response == result.queueing + result.service).all()
    assert (result.arrival <= result.scheduled).all()
    assert (result.scheduled < result.first_token)[done].all()
    assert (result.first_token <= result.handed_over).all()
    assert (result.handed_over <= result.resumed).all()
    assert (result.resumed < result.finished)[done & (outputs > 1)].all()
    assert np.sort(result.rows).tolist() == np.flatnonzero(outputs > 1).tolist()
    summary = result.summary()
    if result.decode and done.all():
        steps = [share.result.steps() for share in result.decode.shares]
        computed = sum(int((step["decode_rows"] + step["prefill_rows"]).sum()) for step in steps)
        preempted = sum(share.result.fates.preemptions.sum() for share in result.decode.shares if share.result.fates)
        if not preempted:
            assert computed == (outputs - 1).sum()
        gaps = (outputs - 1).sum()
        total = (result.finished - result.first_token).sum()
        assert summary["itl_s"]["mean"] == pytest.approx(total / gaps * PS)


@settings(max_examples=100)
@given(made(), st.sampled_from(DECODERS), st.sampled_from([None, 14, 30]), st.integers(1, 3), st.integers(0, 9))
def test_leaping_is_stepping(made: Made, decoder: Any, blocks: int | None, replicas: int, seed: int) -> None:
    system = pools(decoder, blocks, replicas)
    leaps = simulate_disaggregated(made.workload, system, seed=seed)
    steps = simulate_disaggregated(made.workload, system, seed=seed, longest_leap=1)
    for name in ("scheduled", "first_token", "handed_over", "resumed", "finished", "outcome"):
        assert getattr(leaps, name).tolist() == getattr(steps, name).tolist(), name
    check_laws(leaps)
    assert leaps.summary() == steps.summary()


def test_who_is_preempted_computes_the_prompt_anew_where_it_decodes() -> None:
    made = Made([0] * 6, [8] * 6, [60] * 6)
    result = simulate_disaggregated(made.workload, pools(Vllm(64, 6), 30, 1))
    assert result.decode
    fates = [share.result.fates for share in result.decode.shares]
    preemptions = sum(int(fate.preemptions.sum()) for fate in fates if fate)
    again = sum(int(fate.recomputed_tokens.sum()) for fate in fates if fate)
    assert preemptions > 0
    assert again >= 9 * preemptions
    assert (result.outcome == 0).all()
    summary = result.summary()
    assert (summary["preemptions"], summary["recomputed_tokens"]) == (preemptions, again)


def test_a_link_without_end_and_one_replica_each_leaves_the_prefill_alone() -> None:
    made = Made(list(range(0, 90000, 900)), [20] * 100, [30] * 100)
    fast = Transfer(gib_per_s=1e12, kv_bytes_per_token=1.0)
    prefill = Cluster.of(1, System(Continuous(4), PREFILL), ShortestQueue())
    decode = Cluster.of(1, System(Vllm(100, 100), DECODE), ShortestQueue())
    result = simulate_disaggregated(made.workload, Disaggregation(prefill, decode, fast))
    columns = {**made.workload.columns, "output_tokens": np.ones(100, np.int64)}
    alone = simulate(Workload.of(columns, {}), prefill.systems[0])
    assert result.first_token.tolist() == alone.finished.tolist()
    assert result.handed_over.tolist() == alone.finished.tolist()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=30))
def test_a_link_serves_in_turn(asked: list[tuple[int, int]]) -> None:
    ready, lasts = (np.array(column, np.int64) for column in zip(*sorted(asked), strict=True))
    free, done = 0, []
    for at, long in zip(ready.tolist(), lasts.tolist(), strict=True):
        free = max(free, at) + long
        done.append(free)
    assert served_in_turn(ready, lasts).tolist() == done


def test_prompts_that_fit_no_memory_are_rejected_and_never_decoded() -> None:
    made = Made([0, 0, 0], [4, 80, 4], [3, 3, 1])
    small = System(Vllm(64, 4), PREFILL, memory=Memory(block_size=4, num_blocks=8))
    prefill = Cluster.of(1, small, ShortestQueue())
    decode = Cluster.of(1, System(Vllm(64, 4), DECODE), ShortestQueue())
    result = simulate_disaggregated(made.workload, Disaggregation(prefill, decode, LINK))
    assert result.requests()["outcome"].tolist() == ["completed", "rejected", "completed"]
    assert result.rows.tolist() == [0]
    outcomes = result.summary()["outcomes"]
    assert {name: count for name, count in outcomes.items() if count} == {"completed": 2, "rejected": 1}
    assert result.summary()["itl_s"]["mean"] == pytest.approx((result.finished[0] - result.first_token[0]) / 2 * PS)


def test_answers_of_one_token_need_nobody_who_decodes() -> None:
    made = Made([0, 5], [4, 4], [1, 1])
    result = simulate_disaggregated(made.workload, pools(Vllm(64, 4), None, 1))
    assert result.decode is None
    assert result.summary()["itl_s"] is None
    assert result.finished.tolist() == result.first_token.tolist()


def test_the_narrowest_part_is_the_saturation() -> None:
    count = 4000
    made = Made((np.arange(count) * 3000).tolist(), [10] * count, [5] * count)
    prefill = Cluster.of(2, System(NoBatching(), PREFILL), ShortestQueue())
    decode = Cluster.of(1, System(Vllm(64, 8), DECODE), ShortestQueue())
    slow = Transfer(gib_per_s=1.0, kv_bytes_per_token=300 * PS * 2**30)
    result = simulate_disaggregated(made.workload, Disaggregation(prefill, decode, slow), warmup=100)
    by_part = result.summary()["saturation_by_part"]
    assert by_part["prefill"] == pytest.approx(2 / (1403 * PS), rel=1e-3)
    assert by_part["transfer"] == pytest.approx(2 / (3000 * PS))
    assert by_part["decode"] == pytest.approx(8 / (4 * (300 + 8 * 61 + 2 * 8 * 11.5) * PS), rel=0.02)
    assert result.saturation_rps() == min(by_part.values())
    assert not result.unstable


SCENARIO = """
[workload]
requests = 300
arrivals = { kind = "poisson", rate = 200.0 }
prompt_tokens = { kind = "geometric", mean = 80, max = 300 }
output_tokens = { kind = "geometric", mean = 20, max = 200 }

[cluster.prefill]
replicas = 2
router = { kind = "join-shortest-queue" }

[cluster.prefill.system]
policy = { kind = "continuous", max_seqs = 8 }
cost = { kind = "profile", name = "gpt2-h200-bf16-graph" }

[[cluster.decode.system]]
policy = { kind = "vllm", max_num_seqs = 64 }
cost = { kind = "profile", name = "gpt2-h200-bf16-graph" }

[cluster.transfer]
gib_per_s = 20.0
latency_s = 0.0005
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def test_the_command(written: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one_run = ("--set", "run.replications=1", "--set", "run.warmup=0")
    ran = CliRunner().invoke(app, ["simulate", str(written), "--out", str(out), *one_run])
    assert ran.exit_code == 0, ran.output
    for said in ("handover", "transfer", "prefill 1", "decode 0"):
        assert said in ran.output
    table = parquet.read_table(out / "requests.parquet").to_pydict()
    summary = json.loads((out / "summary.json").read_text())
    assert len(table["request_id"]) == summary["requests"] == 300
    assert set(table["decode_replica"]) <= {-1, 0}
    # 36,864 bytes a token of GPT-2 in bfloat16.
    least_s = min(table["prompt_tokens"]) * 36864 / (20 * 2**30) + 0.0005
    assert summary["transfer_s"]["mean"] > least_s


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[cluster.transfer]\ngib_per_s = 20.0",
            "[cluster.transfer]\ngib_per_s = 0",
            "cluster.transfer: gib_per_s = 0",
        ),
        ("replicas = 2", "replicas = 0", "cluster.prefill: replicas = 0 must be at least 1"),
        ("replicas = 2\n", "", "cluster.prefill: give replicas = 4, say, or one table"),
        ('kind = "vllm", max_num_seqs = 64', 'kind = "sglang"', "cannot let them decode at once: take one"),
        ("[cluster.transfer]", "[cluster.transfr]", "unknown key 'transfr'; did you mean 'transfer'?"),
        ("[cluster.transfer]\ngib_per_s = 20.0\nlatency_s = 0.0005\n", "", "the table [cluster.transfer] is missing"),
        ("[cluster.prefill]", "[system]\na = 1\n[cluster.prefill]", "move [system] to [cluster.prefill.system]"),
        (
            "[cluster.prefill]",
            "[cluster.prefill.failures]\nmean_up_s = 1.0\nmean_down_s = 1.0\n[cluster.prefill]",
            "fail",
        ),
    ],
)
def test_mistakes(written: Path, old: str, new: str, said: str) -> None:
    assert old in SCENARIO
    written.write_text(SCENARIO.replace(old, new))
    ran = CliRunner().invoke(app, ["simulate", str(written)])
    assert ran.exit_code == 2, ran.output
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_what_cannot_be_apart_is_refused() -> None:
    one = Cluster.of(1, System(Vllm(64, 4), DECODE), ShortestQueue())
    failing = Cluster.of(1, System(Vllm(64, 4), DECODE), ShortestQueue(), Failures(mean_up_s=1.0, mean_down_s=1.0))
    with pytest.raises(ConfigError, match="cannot fail yet"):
        Disaggregation(one, failing, LINK)
    batches = Cluster.of(1, System(Sglang(8), DECODE), ShortestQueue())
    with pytest.raises(ConfigError, match="cannot let them decode at once"):
        Disaggregation(one, batches, LINK)
    due = Cluster.of(1, System(Vllm(64, 4), DECODE, order=Edf()), ShortestQueue())
    with pytest.raises(ConfigError, match="decode: its order edf goes by when first tokens are due"):
        Disaggregation(one, due, LINK)
    memory = Memory(num_blocks=8, kv_bytes_per_token=1.0)
    sizes = Cluster((one.systems[0], System(Vllm(64, 4), DECODE, memory=memory)))
    with pytest.raises(ConfigError, match="give kv_bytes_per_token"):
        Disaggregation(sizes, one, Transfer(gib_per_s=1.0))
    other = System(Vllm(64, 4), DECODE, memory=Memory(num_blocks=8, kv_bytes_per_token=2.0))
    with pytest.raises(ConfigError, match="let all serve the same model"):
        Disaggregation(Cluster((sizes.systems[1], other)), one, Transfer(gib_per_s=1.0))


def test_goodput_is_told_where_requests_have_limits() -> None:
    made = Made([0, 10_000], [4, 4], [3, 3])
    columns = {**made.workload.columns, "ttft_slo_s": np.array([1e-6, 1.0]), "tpot_slo_s": np.array([np.inf, np.inf])}
    one = Cluster.of(1, System(Vllm(64, 4), DECODE), ShortestQueue())
    prefill = Cluster.of(1, System(NoBatching(), PREFILL), ShortestQueue())
    tight = {**columns, "ttft_slo_s": np.array([1e-12, 1.0])}
    rates = [
        simulate_disaggregated(Workload.of(each, {}), Disaggregation(prefill, one, LINK)).summary()
        for each in (columns, tight)
    ]
    assert rates[0]["goodput_rps"] == rates[0]["throughput_rps"]
    assert rates[1]["goodput_rps"] == pytest.approx(rates[1]["throughput_rps"] / 2)
