"""With memory that is short, under every policy that looks at it: leaping is stepping, nobody is lost, no block is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from leaps import alike, answered
from short_memory import KINDS, Scene, scenes

from simqueue import Affine, Memory, Result, System, Workload, simulate
from simqueue.errors import ConfigError
from simqueue.fates import OUTCOMES
from simqueue.policy import Vllm

PS = 1e-12
UNITS = {"hash_block_tokens": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_leaping_is_stepping(kind: str) -> None:
    @settings(max_examples=2 * settings.default.max_examples)
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        alike(scene.workload, scene.system, scene.seed)

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_laws(kind: str) -> None:
    @given(scenes(kind))
    def law(scene: Scene) -> None:
        result = answered(scene.workload, scene.system, seed=scene.seed)
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
        result = answered(scene.workload, scene.system, seed=scene.seed)
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
