"""Both runners emit, token for token, what Hugging Face's own `generate` emits for each prompt alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from calibration.check import check, serve  # noqa: E402
from simqueue.errors import ConfigError, SimqueueError  # noqa: E402
from simqueue.live.device.buckets import Buckets  # noqa: E402
from simqueue.live.device.eager import EagerRunner  # noqa: E402
from simqueue.live.device.graph import GraphRunner  # noqa: E402
from simqueue.live.device.load import load  # noqa: E402

SIZES = Buckets(rows=(1, 2, 4, 6), slots=(32, 64, 128), prefill_rows=(1, 2, 4), widths=(16, 32, 128), launch_tokens=64)


@pytest.fixture(scope="module")
def loaded():
    # large weights, so that the argmax depends on the whole context and not on the last token
    return load("tiny", "fp32", "cpu", initializer_range=0.2)


def prompts_of(lengths, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 1024, n) for n in lengths]


def generated(loaded, prompt, n):
    loaded.model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        ids = loaded.model.generate(
            torch.tensor(prompt)[None], max_new_tokens=n, do_sample=False, eos_token_id=None, use_cache=True
        )
    return ids[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def expected(loaded):
    prompts = prompts_of([1, 5, 16, 17, 40, 90, 30, 2])
    return prompts, [generated(loaded, prompt, 12) for prompt in prompts]


def test_the_argmax_depends_on_the_context(loaded):
    prompt = prompts_of([40])[0]
    assert generated(loaded, prompt, 6) != generated(loaded, prompt[1:], 6)


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [5, 2, 4, 3, 1, 0]])
def test_eager(loaded, expected, rows):
    prompts, tokens = expected
    runner = EagerRunner(loaded)
    emitted = [runner.start([prompts[i] for i in rows])]
    emitted += [runner.next() for _ in range(11)]
    assert np.array(emitted).T.tolist() == [tokens[i] for i in rows]


def test_graph_prefills_whole_prompts_then_decodes(loaded, expected):
    prompts, tokens = expected
    runner = GraphRunner(loaded, SIZES)
    emitted = [runner.step([(slot, prompts[slot]) for slot in range(6)])]
    emitted += [runner.step(decode=np.arange(6)) for _ in range(11)]
    assert np.array(emitted).T.tolist() == tokens[:6]


def test_graph_chunks_mixed_steps_and_slots_used_again(loaded, expected):
    """A small scheduler: three slots, a budget of new tokens a step, requests joining as others leave."""
    prompts, tokens = expected
    runner = GraphRunner(loaded, SIZES)
    kinds = set()
    step = runner.step

    def noting(prefill, decode):
        kinds.add((len(prefill) > 0, len(decode) > 0, any(runner.lengths[slot] for slot, _ in prefill)))
        return step(prefill, decode)

    runner.step = noting
    assert serve(runner, prompts, 12, 3, 9) == tokens
    assert {(True, True, True), (True, True, False), (False, True, False)} <= kinds


def test_graph_decodes_some_slots_while_others_wait_half_prefilled(loaded, expected):
    prompts, tokens = expected
    runner = GraphRunner(loaded, SIZES)
    first = runner.step([(2, prompts[4])])
    runner.step([(0, prompts[5][:50])])
    rest = [runner.step(decode=np.array([2]))[0] for _ in range(11)]
    assert first + rest == tokens[4]
    assert runner.step([(0, prompts[5][50:])]) == tokens[5][:1]


def test_a_full_window_is_refused(loaded):
    runner = GraphRunner(loaded, SIZES)
    runner.lengths[0] = 128
    with pytest.raises(ConfigError, match="128 tokens"):
        runner.step(decode=np.array([0]))


def test_pretended_batches_can_be_stepped_and_rewound(loaded):
    runner = EagerRunner(loaded)
    rewind = runner.pretend(3, 20, 19)
    rewind()
    first = runner.next()
    runner.next()
    rewind()
    assert len(first) == 3
    assert runner.next() == first


@pytest.mark.parametrize(("runner", "dtype"), [("graph", "fp32"), ("eager", "fp32"), ("graph", "bf16")])
def test_the_check_passes_on_a_cpu(runner, dtype):
    check("tiny", runner, dtype, "cpu")


def test_the_check_notices_a_token_of_another_context(monkeypatch):
    monkeypatch.setattr(GraphRunner, "move", lambda self, source, target: None)
    with pytest.raises(SimqueueError, match="check failed"):
        check("tiny", "graph", "fp32", "cpu")
