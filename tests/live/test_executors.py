"""Every executor emits, token for token, what Hugging Face's own `generate` emits for each prompt alone."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from fickle import Fickle  # noqa: E402

from calibration.check import agreement, serve  # noqa: E402
from simqueue import Affine, Continuous, Memory, Static, System, Workload  # noqa: E402
from simqueue.errors import ConfigError, DeviceError  # noqa: E402
from simqueue.live.device import make, text  # noqa: E402
from simqueue.live.device.buckets import Buckets, buckets  # noqa: E402
from simqueue.live.device.eager import EagerExecutor  # noqa: E402
from simqueue.live.device.graph import GraphExecutor  # noqa: E402
from simqueue.live.device.load import load  # noqa: E402
from simqueue.live.device.naive import NaiveExecutor  # noqa: E402
from simqueue.live.device.reference import generate  # noqa: E402
from simqueue.live.device.slots import Slots  # noqa: E402
from simqueue.live.device.static import StaticModel  # noqa: E402
from simqueue.live.serve import RunError  # noqa: E402
from simqueue.live.serve import serve as live  # noqa: E402
from simqueue.plan import Work  # noqa: E402
from simqueue.policy import FastServe, Sglang, Srpt, Vllm  # noqa: E402

KINDS = make.KINDS
ROWS, WINDOW, OUTPUT = 6, 128, 24
SIZES = Buckets(
    rows=(1, 2, 4, ROWS), slots=(32, 64, WINDOW), prefill_rows=(1, 2, 4), widths=(16, 32, WINDOW), launch_tokens=64
)
# In float32 two orders of summation differ by about 1e-6; where the two best logits are as close, either may win.
TIE = 1e-4
CLOSE = 1e-4


@pytest.fixture(scope="module")
def loaded():
    # large weights: with the usual ones the argmax hardly depends on the context, and no comparison could fail
    return load("tiny", "fp32", "cpu", initializer_range=0.2)


@pytest.fixture(scope="module")
def expected(loaded):
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 1024, n) for n in (1, 5, 16, 17, 40, 90, 30, 2, 104, 64, 33, 8, 3, 50)]
    return prompts, [generate(loaded, prompt, OUTPUT) for prompt in prompts]


def executor_of(kind, loaded, *, overlaps=True):
    """On a CPU nothing overlaps unless it is told to; the order of the launches is then that of a GPU."""
    if kind == "graph":
        executor = GraphExecutor(loaded, SIZES)
        executor.overlaps = overlaps
        return executor
    return (EagerExecutor if kind == "eager" else NaiveExecutor)(loaded, ROWS, WINDOW)


def agree(expected, answers):
    for (tokens, logits), answer in zip(expected, answers, strict=True):
        assert answer
        differ = np.flatnonzero(np.array(tokens[: len(answer)]) != np.array(answer))
        if len(differ):
            second, best = np.sort(logits[differ[0]])[-2:]
            assert best - second < TIE


def step(executor, *chunks):
    executor.launch(chunks, Work())
    [emitted] = executor.collect(lambda: False)
    return dict(zip(emitted.requests, emitted.tokens, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_tokens_are_those_of_generate_in_any_order(loaded, expected, kind, seed):
    rng = np.random.default_rng(seed)
    prompts, answers = expected
    outputs = rng.integers(1, OUTPUT + 1, len(prompts)).tolist()
    emitted = serve(executor_of(kind, loaded), prompts, outputs, rng)
    assert [len(answer) for answer in emitted] == outputs
    agree(answers, emitted)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_generate(loaded, expected, kind):
    """Of every token, the whole row of logits that it is the argmax of."""
    prompts, answers = expected
    executor, rng = executor_of(kind, loaded, overlaps=False), np.random.default_rng(3)
    seen, compared = [], 0
    head = {"graph": lambda: executor._model._head, "eager": lambda: loaded.model.lm_head}
    module = head.get(kind, lambda: executor._model.lm_head)()
    collect = executor.collect

    def compare(stopped):
        nonlocal compared
        steps = collect(stopped)
        passes = [seen] if len(steps) == 1 else [[logits] for logits in seen]
        for emitted, rows in zip(steps, passes, strict=True):
            rows = torch.cat([logits.reshape(-1, logits.shape[-1]) for logits in rows]).numpy()
            for request in emitted.requests:
                if (n := counts[request]) < OUTPUT:
                    wanted = answers[request][1][n]
                    assert np.abs(rows - wanted).max(1).min() < CLOSE * np.abs(wanted).max()
                    compared += 1
                counts[request] += 1
        seen.clear()
        return steps

    counts, executor.collect = [0] * len(prompts), compare
    hook = module.register_forward_hook(lambda _, inputs, output: seen.append(output.detach().clone()))
    try:
        serve(executor, prompts, [OUTPUT] * len(prompts), rng)
    finally:
        hook.remove()
    assert compared == OUTPUT * len(prompts)


def test_the_answers_depend_on_the_whole_context(loaded, expected):
    """Without this no comparison above could fail."""
    prompts, answers = expected
    assert np.mean([len(set(tokens)) for tokens, _ in answers]) > 12
    assert len({tuple(tokens) for tokens, _ in answers}) == len(prompts)
    first_changed = [generate(loaded, np.r_[(prompt[0] + 1) % 1024, prompt[1:]], OUTPUT)[0] for prompt in prompts]
    assert all(other != tokens for other, (tokens, _) in zip(first_changed, answers, strict=True))


def no_copies(monkeypatch):
    monkeypatch.setattr(StaticModel, "copy", lambda *_: None)


def no_context(monkeypatch):
    take = Slots.take
    monkeypatch.setattr(Slots, "take", lambda *a: (*take(*a)[:2], 0))


def no_ids(monkeypatch):
    decode = StaticModel._decode
    monkeypatch.setattr(StaticModel, "_decode", lambda self, *a: (self._ids.zero_(), decode(self, *a)))


def no_mask(monkeypatch):
    from simqueue.live.device import eager

    padded = eager.padded
    monkeypatch.setattr(eager, "padded", lambda prompts: (padded(prompts)[0], np.ones_like(padded(prompts)[1])))


@pytest.mark.parametrize(
    ("kind", "break_it"), [("graph", no_copies), ("graph", no_context), ("graph", no_ids), ("eager", no_mask)]
)
def test_a_broken_executor_is_noticed(loaded, expected, kind, break_it, monkeypatch):
    break_it(monkeypatch)
    prompts, answers = expected
    emitted = serve(executor_of(kind, loaded), prompts, [OUTPUT] * len(prompts), np.random.default_rng(3))
    with pytest.raises(AssertionError):
        agree(answers, emitted)


def test_random_orders_meet_every_launch_and_every_move(loaded, expected, monkeypatch):
    launched, moved = set(), set()
    run, copy = StaticModel.run, StaticModel.copy
    monkeypatch.setattr(StaticModel, "run", lambda self, launch: (launched.add(launch), run(self, launch)))
    monkeypatch.setattr(StaticModel, "copy", lambda self, s, t, n: (moved.add((s, t)), copy(self, s, t, n)))
    prompts, _ = expected
    executor, rng = executor_of("graph", loaded), np.random.default_rng(2)
    for _ in range(6):
        serve(executor, prompts, rng.integers(1, OUTPUT + 1, len(prompts)).tolist(), rng)
    assert {(kind, rows) for kind, rows, _ in launched} >= {("decode", r) for r in SIZES.rows}
    assert {launch[0] for launch in launched} == {"decode", "prefill", "chunk"}
    assert any(ROWS in pair for pair in moved)  # over the spare slot: a half-computed prompt gave way
    assert any(ROWS not in pair for pair in moved)


def test_decoding_goes_on_beside_a_prompt_in_chunks(loaded, expected):
    prompts, answers = expected
    executor = executor_of("graph", loaded)
    executor.begin(7, prompts[5])
    executor.begin(8, prompts[4])
    assert step(executor, (7, 50)) == {}
    emitted = step(executor, (7, 1), (8, 40))
    assert list(emitted) == [8]
    rest = [step(executor)[8] for _ in range(5)]
    assert [emitted[8], *rest] == answers[4][0][:6]
    assert step(executor, (7, 39)) == {8: answers[4][0][6], 7: answers[5][0][0]}
    executor.end([8])
    assert step(executor) == {7: answers[5][0][1]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_held_row_at_the_end_of_the_window_disturbs_nobody(loaded, expected, kind):
    prompts, answers = expected
    long = np.arange(1020)
    executor = make.around(loaded, kind, 2, 1024)
    executor.begin(0, long)
    executor.begin(1, prompts[1])
    emitted, chunks = [], [(0, 1020), (1, 5)]
    while len(emitted) < OUTPUT:
        executor.launch(chunks, Work(steps=OUTPUT))
        emitted += executor.collect(lambda: False)
        chunks = []
    both = np.array([each.tokens for each in emitted]).T.tolist()
    agree([generate(loaded, long, 4), answers[1]], [both[0][:4], both[1]])


def test_what_left_or_went_away_since_the_next_step_began_emits_nothing(loaded, expected):
    prompts, answers = expected
    executor = executor_of("graph", loaded)
    for request in (1, 2, 7):
        executor.begin(request, prompts[request])
    executor.launch([(1, 5), (2, 16), (7, 2)], Work())
    executor.ahead([7])
    [first] = executor.collect(lambda: False)
    assert dict(zip(first.requests, first.tokens, strict=True)) == {i: answers[i][0][0] for i in (1, 2, 7)}
    executor.end([7])
    executor.end([2])  # its client went away while its next token was being computed
    executor.begin(3, prompts[3])
    assert step(executor, (3, 17)) == {1: answers[1][0][1], 3: answers[3][0][0]}
    assert step(executor) == {1: answers[1][0][2], 3: answers[3][0][1]}


def test_a_batch_that_ends_while_the_next_step_runs_leaves_no_trace(loaded, expected):
    prompts, answers = expected
    executor = executor_of("graph", loaded)
    executor.begin(1, prompts[1])
    executor.launch([(1, 5)], Work())
    executor.ahead(())
    executor.collect(lambda: False)
    executor.end([1])
    executor.begin(2, prompts[2])
    assert [step(executor, (2, 16)), *(step(executor) for _ in range(3))] == [{2: t} for t in answers[2][0][:4]]


def test_rows_begun_and_ended_together_run_on_the_graph_executor(loaded, expected):
    """A run-to-completion batch there: who is done is held until all are, past the end of the window."""
    prompts, answers = expected
    executor = executor_of("graph", loaded)
    for request in (8, 1):
        executor.begin(request, prompts[request])
    tokens = [step(executor, (8, 104), (1, 5)), *(step(executor) for _ in range(40))]
    assert [each[8] for each in tokens[:OUTPUT]] == answers[8][0]
    assert [each[1] for each in tokens[:OUTPUT]] == answers[1][0]
    assert [each[1] for each in tokens] == generate(loaded, prompts[1], 41)[0]
    executor.end([8, 1])
    assert len(executor._slots) == 0


@pytest.mark.parametrize("stops", ["run", "wait", None], ids=["launching", "waiting", "ctrl-c"])
@pytest.mark.parametrize("policy", [Continuous(ROWS), Continuous(ROWS, 16), Static(4)], ids=repr)
def test_after_a_run_that_stopped_in_the_middle_the_next_one_is_as_ever(loaded, expected, policy, stops, monkeypatch):
    """The next step has begun when the one under way is the last, or fails; or it fails as it begins."""
    prompts, answers = expected
    executor, calls = executor_of("graph", loaded), 0
    work = Workload.from_columns(np.zeros(len(prompts)), list(map(len, prompts)), [OUTPUT] * len(prompts))
    system = System(policy, Affine(base_s=1.0))
    inner = getattr(executor._model, stops or "wait")

    def stopping(*args):
        nonlocal calls
        calls += 1
        if calls == 40:
            if stops:
                raise DeviceError("boom")
            os.kill(os.getpid(), signal.SIGINT)
        return inner(*args)

    with monkeypatch.context() as patch:
        patch.setattr(executor._model, stops or "wait", stopping)
        if stops:
            with pytest.raises(RunError, match="boom"):
                live(work, system, executor, clients="thread", prompts=prompts)
        else:
            assert live(work, system, executor, clients="thread", prompts=prompts).interrupted
    assert len(executor._slots) == 0
    again = live(work, system, executor, clients="thread", prompts=prompts)
    assert again.outcomes["completed"] == len(prompts)
    agree(answers, again.answers)


@pytest.mark.parametrize("kind", KINDS)
def test_any_thread_can_run_it(loaded, expected, kind):
    prompts, answers = expected
    executor, rng = executor_of(kind, loaded), np.random.default_rng(4)
    with ThreadPoolExecutor(1) as thread:
        agree(answers, thread.submit(serve, executor, prompts, [4] * len(prompts), rng).result())


def test_two_graph_executors_share_weights_and_nothing_else(loaded, expected):
    prompts, answers = expected
    one, other = executor_of("graph", loaded), executor_of("graph", loaded)
    for request, executor in ((1, one), (2, other)):
        executor.begin(request, prompts[request])
    both = [(step(one, (1, 5)), step(other, (2, 16))), *((step(one), step(other)) for _ in range(5))]
    assert [a[1] for a, _ in both] == answers[1][0][:6]
    assert [b[2] for _, b in both] == answers[2][0][:6]


def test_a_naive_call_ends_early_when_it_is_stopped(loaded, expected):
    prompts, answers = expected
    executor, asked = executor_of("naive", loaded), []

    def stopped():
        asked.append(None)
        return len(asked) == 3

    executor.begin(0, prompts[0])
    executor.launch([(0, 1)], Work(steps=OUTPUT))
    emitted = executor.collect(stopped)
    assert [each.tokens for each in emitted] == [[token] for token in answers[0][0][:3]]
    assert sorted(each.end_ns for each in emitted) == [each.end_ns for each in emitted]


def test_an_eager_row_whose_request_has_ended_stays_without_a_word(loaded, expected):
    prompts, answers = expected
    executor = executor_of("eager", loaded)
    executor.begin(3, prompts[3])
    executor.begin(4, prompts[4])
    both = step(executor, (3, 17), (4, 40))
    executor.end([3])
    assert [both[4], step(executor)[4]] == answers[4][0][:2]
    executor.end([4])
    executor.begin(5, prompts[5])
    assert step(executor, (5, 90)) == {5: answers[5][0][0]}


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_run_is_refused(loaded, kind):
    executor = executor_of(kind, loaded)
    for prompt, message in (
        (np.zeros(129, np.int64), "request 4: a prompt of 129 tokens is not within 1 and the window of 128"),
        (np.zeros(0, np.int64), "a prompt of 0 tokens"),
        (np.array([3, 1024]), "token ids 3 to 1024 are not within 0 and 1023"),
        (np.array([-1, 7]), "token ids -1 to 7"),
    ):
        with pytest.raises(DeviceError, match=message):
            executor.begin(4, prompt)
    for request in range(ROWS):
        executor.begin(request, np.array([1]))
    with pytest.raises(DeviceError, match="request 9: 6 requests are on the device already"):
        executor.begin(9, np.array([1]))


def test_too_many_rows_for_the_memory_are_refused(loaded):
    with pytest.raises(DeviceError, match=f"a batch of {1 << 45} rows of 64 tokens does not fit"):
        make.around(loaded, "eager", 1 << 45, 64)


def test_too_little_memory_names_the_batch_and_what_fits(loaded):
    """2 ** 47 bytes are more than a process can address."""
    with pytest.raises(DeviceError, match=r"200000000 rows of 1024 tokens does not fit .* about [1-9]\d* rows of that"):
        GraphExecutor(loaded, buckets(200_000_000, 1024))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("magic", "tiny", "fp32", "cpu", 2, 64), "executor = 'magic' is not one of graph, eager, naive"),
        (("eager", "tiny", "fp8", "cpu", 2, 64), "dtype = 'fp8' is not one of bf16, fp32"),
        (("eager", "tiny", "fp32", "tpu", 2, 64), "device = 'tpu' is not one of cuda, cpu"),
        (
            ("eager", "tiny", "fp32", "cpu", 2, 4096),
            r"max context = 4096: .* window of 1024 tokens: .*live\.max_context",
        ),
        (
            ("eager", "no/such/folder", "fp32", "cpu", 2, 64),
            r"model = 'no/such/folder': there is no such .*live\.model",
        ),
        (("eager", "nosuch", "fp32", "cpu", 2, 64), "model = 'nosuch': there is no such folder: give gpt2, tiny, or a"),
        (("eager", "", "fp32", "cpu", 2, 64), "model = '': there is no such folder"),
        (("eager", ".", "fp32", "cpu", 2, 64), r"model = '\.': the folder holds no causal language model"),
    ],
)
def test_an_executor_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make.executor(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_a_clear_refusal():
    with pytest.raises(
        ConfigError, match=r"there is no GPU .*--set live\.device=cpu --set live\.model=tiny --set live\.dtype=fp32"
    ):
        make.executor("graph", "tiny", "bf16", "cuda", 2, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_it_is(kind):
    executor = make.executor(kind, "tiny", "fp32", "cpu", 3, 256)
    assert (executor.max_rows, executor.window, executor.vocabulary) == (3, 256, 1024)
    assert executor.iteration_level == (kind == "graph")
    assert executor.streams == (kind != "naive")
    about = executor.describe()
    assert about["runner"] == kind
    assert (about["model"], about["weights"], about["dtype"], about["gpu"]) == (
        "gpt2-tiny",
        "random",
        "float32",
        "none",
    )
    assert set(about) >= {"driver", "cpu", "python", "torch", "transformers", "attention"}


def test_agreement_is_full_with_itself_and_small_with_other_prompts(loaded, expected):
    prompts, answers = expected
    tokens = [tokens for tokens, _ in answers]
    assert agreement(loaded, prompts, tokens).equal == 1
    assert agreement(loaded, prompts, tokens[1:] + tokens[:1]).equal < 0.05


def test_pretended_batches_can_be_stepped_and_rewound(loaded):
    executor = executor_of("eager", loaded)
    rewind = executor.pretend(3, 20, 19)
    rewind()
    first = step(executor)
    step(executor)
    rewind()
    assert len(first) == 3
    assert step(executor) == first


def test_pretended_rows_decode_and_prefill(loaded, expected):
    """Noise of 70 tokens, and a real prompt beside it, which the noise does not touch."""
    prompts, answers = expected
    executor = executor_of("graph", loaded)
    executor.pretend([(0, np.zeros(70, np.int64), 70), (1, prompts[3], 0), (2, prompts[5], 30)])
    emitted = step(executor, (1, 17), (2, 60))
    assert list(emitted) == [0, 1, 2]
    assert [emitted[1], step(executor)[1]] == answers[3][0][:2]


def test_bytes_there_and_back_and_through_the_pipeline(loaded):
    tokenizer = text.tokenizer(loaded)
    for words in ("Hello, world!", "naïve — 分\n\t\x00"):
        ids = tokenizer(words)["input_ids"]
        assert len(ids) == len(words.encode())
        assert tokenizer.decode(ids) == words
    answer = text.pipeline(loaded)("Once upon", max_new_tokens=4, do_sample=False)
    assert answer[0]["generated_text"].startswith("Once upon")


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize(
    "policy", [Vllm(64, ROWS), Sglang(ROWS, 64, schedule_conservativeness=0.0)], ids=["vllm", "sglang"]
)
def test_what_is_computed_again_after_preemption_is_the_same_answer(loaded, expected, policy, overlaps):
    """The cache holds one of the longest and little more, so that answers are interrupted, some more than once."""
    prompts, answers = expected
    lengths, outputs = [len(p) for p in prompts], [OUTPUT] * len(prompts)
    work = Workload.from_columns([0.0] * len(prompts), lengths, outputs, max_output_tokens=outputs)
    system = System(policy, Affine(1e-3), memory=Memory(1, 140))
    run = live(work, system, executor_of("graph", loaded, overlaps=overlaps), clients="thread", prompts=prompts)
    assert run.outcomes["completed"] == len(prompts)
    assert run.result.summary()["preemptions"] > 0
    agree(answers, run.answers)


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize(
    "policy",
    [
        Srpt(2),
        FastServe(4, prompt_tokens_per_step=32, preemption="swap"),
        Fickle("recompute", ROWS),
        Fickle("keep", ROWS),
        Fickle("swap", ROWS),
        Fickle("swap", ROWS, mixes=False),
    ],
    ids=repr,
)
def test_who_is_left_out_of_steps_gets_the_same_answer(loaded, expected, policy, overlaps, monkeypatch):
    """Those who lose their seats keep their caches, on the device or on the host; others wait for a step."""
    held, moved = [], []
    hold, to_host = GraphExecutor.hold, StaticModel.to_host
    monkeypatch.setattr(GraphExecutor, "hold", lambda *a, **k: (held.append(a[1]), hold(*a, **k)))
    monkeypatch.setattr(StaticModel, "to_host", lambda *a: (moved.append(a[1:]), to_host(*a))[1])
    # A cache that is kept takes a row.
    count = ROWS if policy == Srpt(2) else ROWS + 4
    prompts, answers = (column[:count] for column in expected)
    lengths, outputs = [len(p) for p in prompts], [OUTPUT // 2] * count
    # Each comes while others run, and is thought to be shorter than they are.
    columns = {"predicted_output_tokens": np.arange(90, 0, -9)[:count], "max_output_tokens": outputs}
    work = Workload.from_columns(np.arange(count) * 0.01, lengths, outputs, **columns)
    executor = executor_of("graph", loaded, overlaps=overlaps)
    run = live(work, System(policy, Affine(1e-3)), executor, clients="thread", prompts=prompts)
    assert run.outcomes["completed"] == len(prompts)
    agree(answers, run.answers)
    assert held
    assert bool(moved) == (policy.preemption == "swap")
    assert len(executor._slots) == 0
    assert not executor._away
