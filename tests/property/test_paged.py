"""With memory that is short, under every policy that looks at it: leaping is stepping, nobody is lost, no block is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue import Affine, ErlangNoise, Memory, Result, System, Workload, simulate
from simqueue.errors import ConfigError
from simqueue.fates import OUTCOMES
from simqueue.policy import FastServe, Orca, Sarathi, Sglang, Srpt, TensorrtLlm, Tgi, Vllm

PS = 1e-12
UNITS = {"hash_block_tokens": 4}
Policies = Callable[[st.DrawFn, int], Any]


def vllm(draw: st.DrawFn, seats: int) -> Any:
    budget = seats + draw(st.sampled_from([0, 5, 50, 2000]))
    threshold = draw(st.sampled_from([0, 3]))
    by = draw(st.sampled_from(["fcfs", "priority"]))
    return Vllm(budget, seats, by, threshold, draw(st.booleans()), draw(st.sampled_from([0.0, 0.1])))


def sarathi(draw: st.DrawFn, seats: int) -> Any:
    return Sarathi(seats, seats + draw(st.sampled_from([0, 5, 50])), draw(st.sampled_from([0.0, 0.01, 0.1])))


def orca(draw: st.DrawFn, seats: int) -> Any:
    return Orca(seats)


def sglang(draw: st.DrawFn, seats: int) -> Any:
    order = draw(st.sampled_from(["fcfs", "lpm", "lof", "shortest-prefill-first"]))
    chunk = draw(st.sampled_from([None, 16, 8192]))
    return Sglang(seats, chunk, 16384, order, draw(st.sampled_from([0.0, 0.3, 1.0])))


def tgi(draw: st.DrawFn, seats: int) -> Any:
    return Tgi(draw(st.sampled_from([0.0, 0.3, 1.2])), draw(st.sampled_from([0, 2, 20])), 64, seats)


def tensorrt_llm(draw: st.DrawFn, seats: int) -> Any:
    rule = draw(st.sampled_from(["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"]))
    return TensorrtLlm(rule, seats, draw(st.sampled_from([120, 8192])), draw(st.booleans()))


def fastserve(draw: st.DrawFn, seats: int) -> Any:
    return FastServe(seats, draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 8, 99])), "keep")


def srpt(draw: st.DrawFn, seats: int) -> Any:
    return Srpt(seats, "keep")


KINDS: dict[str, Policies] = {
    "vllm": vllm,
    "sarathi": sarathi,
    "orca": orca,
    "sglang": sglang,
    "tgi": tgi,
    "tensorrt-llm": tensorrt_llm,
    "fastserve": fastserve,
    "srpt": srpt,
}


@dataclass(frozen=True)
class Scene:
    """A workload, and a system that is short of memory more often than not."""

    workload: Workload
    system: System
    seed: int

    def run(self, **how: Any) -> Result:
        return simulate(self.workload, self.system, seed=self.seed, **how)


@st.composite
def scenes(draw: st.DrawFn, kind: str) -> Scene:
    """Prompts of few tokens, so that whole and partial blocks are both frequent."""
    count = draw(st.integers(1, 20))
    gap = draw(st.sampled_from([0.0, 0.002, 0.02, 0.3]))
    arrival = np.cumsum([draw(st.floats(0, gap)) for _ in range(count)])
    lengths = st.integers(1, draw(st.sampled_from([2, 9, 50])))
    prompt, output = ([draw(lengths) for _ in range(count)] for _ in range(2))
    size = draw(st.sampled_from([1, 2, 4, 16]))
    extra: dict[str, Any] = {
        "max_output_tokens": [o + draw(st.integers(0, 3)) for o in output],
        "predicted_output_tokens": [max(1, o + draw(st.integers(-3, 3))) for o in output],
        "priority": [draw(st.integers(0, 2)) for _ in range(count)],
    }
    policy = KINDS[kind](draw, draw(st.integers(1, 8)))
    prefixes = getattr(policy, "prefixes", False) and draw(st.booleans())
    meta: dict[str, Any] = {}
    if prefixes:
        # Units of two blocks, of three conversations.
        units = 2 * size
        whose = [draw(st.integers(0, 2)) for _ in range(count)]
        full = [(p + o - 1) // units for p, o in zip(prompt, output, strict=True)]
        ids = (" ".join(str(100 * w + k) for k in range(n)) for w, n in zip(whose, full, strict=True))
        extra["hash_ids"] = np.array(list(ids), object)
        meta["hash_block_tokens"] = units
    columns = {"arrival_s": arrival, "prompt_tokens": np.array(prompt), "output_tokens": np.array(output)}
    workload = Workload.of(columns | {k: np.asarray(v) for k, v in extra.items()}, meta)
    most = max(-(-(p + o) // size) for p, o in zip(prompt, output, strict=True))
    blocks = draw(st.integers(max(2, most - 1), 3 * most + 4))
    cost = Affine(base_s=1e-3, per_row_s=1e-5, per_new_token_s=1e-5, per_context_token_s=1e-7)
    noise = {"noise": ErlangNoise(3)} if draw(st.booleans()) else {}
    memory = Memory(block_size=size, num_blocks=blocks, prefix_caching=prefixes)
    return Scene(workload, System(policy, cost, memory=memory, **noise), draw(st.integers(0, 99)))


def served(scene: Scene, **how: Any) -> Result | None:
    """None if nobody ever fits, which is refused."""
    try:
        return scene.run(**how)
    except ConfigError as error:
        if "ever fits" not in str(error):
            raise
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_leaping_is_stepping(kind: str) -> None:
    @settings(max_examples=2 * settings.default.max_examples)
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        leaping, stepping = served(scene), served(scene, longest_leap=1)
        if leaping is None or stepping is None:
            assert leaping is stepping is None
            return
        for name, column in leaping.requests().items():
            same = column.dtype.kind == "f"
            assert np.array_equal(column, stepping.requests()[name], equal_nan=same), name
        for name, column in leaping.steps().items():
            assert np.array_equal(column, stepping.steps()[name]), name
        assert leaping.fates is not None
        assert np.array_equal(leaping.fates.spells, stepping.fates.spells)  # type: ignore[union-attr]
        assert leaping.summary() == stepping.summary()

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_laws(kind: str) -> None:
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        result = served(scene)
        if result is None:
            return
        fates, work = result.fates, result.workload
        assert fates is not None
        assert np.array_equal(result.response, result.queueing + result.service)
        done = fates.completed
        assert set(fates.outcome[~done]) <= {OUTCOMES.index("rejected")}
        size, total = scene.system.memory.block_size, scene.system.memory.num_blocks  # type: ignore[union-attr]
        most = -(-(work.prompt_tokens + work.output_tokens - 1) // size)
        assert not done[most > total].any()
        assert (result.response[~done] == 0).all()
        # Every token is computed once, and those that were lost again, but for what the prefix cache had.
        steps = result.steps()
        outputs = int((work.output_tokens - 1)[done].sum())
        again = int(fates.preemptions.sum())
        if not scene.system.memory.prefix_caching:  # type: ignore[union-attr]
            prompts = int(work.prompt_tokens[done].sum())
            computed = int(steps["new_tokens"].sum() + steps["decode_rows"].sum())
            assert computed == prompts + outputs + int(fates.recomputed_tokens.sum())
            if not again:
                assert fates.recomputed_tokens.sum() == 0
        assert (result.first_token[done] > result.scheduled[done]).all()
        # Whoever was interrupted had its next token after it had its seat again, and spells do not overlap.
        of, lost, seated, token = fates.spells.T
        assert (lost <= seated).all()
        assert (seated < token).all()
        assert (token <= result.finished[of]).all()

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_gaps_between_tokens_one_by_one(kind: str) -> None:
    """ITL by following every request through every step, from its spells."""

    @given(scenes(kind))
    def law(scene: Scene) -> None:
        result = served(scene)
        if result is None:
            return
        fates, ends = result.fates, result.step_ends.tolist()
        assert fates is not None
        paused = np.repeat(result.leaps.get("paused", np.zeros(len(result.leaps["start"]), int)), result.leaps["steps"])
        gaps: list[int] = []
        for i in np.flatnonzero(fates.completed).tolist():
            spells = [row[1:] for row in fates.spells.tolist() if row[0] == i]
            tokens = [int(result.first_token[i])]
            for end, still in zip(ends, paused.tolist(), strict=True):
                away = any(lost < end < token for lost, _, token in spells)
                arrives = any(end == token for _, _, token in spells)
                if tokens[0] < end <= result.finished[i] and not away and (arrives or not still):
                    tokens.append(end)
            assert len(tokens) == result.workload.output_tokens[i]
            gaps += np.diff(tokens).tolist()
        found = result.summary()["itl_s"]
        if not gaps:
            assert found is None
            return
        assert found["mean"] == pytest.approx(np.mean(gaps) * PS)
        assert found["max"] == pytest.approx(max(gaps) * PS)
        assert found["p90"] == pytest.approx(np.quantile(gaps, 0.9, method="inverted_cdf") * PS)

    law()


def test_what_a_step_computes_is_found_in_the_next() -> None:
    """Both come at once and begin alike. The second one fits beside the first only with what that one computes: it
    has its only token after the second step, and not when the first has left."""
    columns = {"arrival_s": [0.0, 0.0], "prompt_tokens": [8, 9], "output_tokens": [5, 1], "hash_ids": ["1 2 3", "1 2"]}
    work = Workload.of({k: np.array(v, object if k == "hash_ids" else None) for k, v in columns.items()}, UNITS)
    system = System(Vllm(100, 9), Affine(1e-3), memory=Memory(4, 4, prefix_caching=True))
    for how in ({}, {"longest_leap": 1}):
        result = simulate(work, system, **how)
        assert result.grid.seconds(result.finished).tolist() == [0.005, 0.002]


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    work = Workload.from_columns([0.0] * 9, [20] * 9, [30] * 9)
    result = simulate(work, System(Vllm(100, 9), Affine(1e-3), memory=Memory(4, 30)))
    assert result.fates is not None
    assert result.fates.spells.size
    result.save(tmp_path / "out")
    loaded = Result.load(tmp_path / "out")
    assert loaded.summary() == result.summary()
    assert np.array_equal(loaded.fates.spells, result.fates.spells)  # type: ignore[union-attr]
    # Another run in the same place leaves nothing of this one.
    plain = simulate(work, System(Vllm(100, 9), Affine(1e-3)))
    plain.save(tmp_path / "out")
    assert Result.load(tmp_path / "out").summary() == plain.summary()


def test_a_prefix_cache_needs_to_know_what_prompts_share() -> None:
    work = Workload.from_columns([0.0], [20], [3])
    system = System(Vllm(100, 9), Affine(1e-3), memory=Memory(4, 30, prefix_caching=True))
    with pytest.raises(ConfigError, match="the workload has no hash_ids"):
        simulate(work, system)
