"""Scenarios from TOML: what is read, and that what cannot be used is refused in one clear line."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from profiles import serving

from simqueue import Affine, Dynamic, Measured, NoBatching, Overheads, SimqueueError, simulate
from simqueue.config import Scenario, load, read_table, scenario_from
from simqueue.cost.noise import LognormalNoise
from simqueue.errors import ConfigError, WorkloadError
from simqueue.profile import Paths, load_profile, save_profile, shipped
from simqueue.workload import (
    ExponentialThink,
    Fixed,
    FixedThink,
    LognormalThink,
    Poisson,
    Think,
    Users,
    make_workload,
)

EXAMPLE = """\
[workload]
requests = 2_000
arrivals = { kind = "poisson", rate = 0.6 }
prompt_tokens = { kind = "fixed", value = 1 }
output_tokens = { kind = "fixed", value = 1 }
[system]
policy = { kind = "dynamic", max_batch = 8, max_wait_s = 0.0 }
cost = { kind = "affine", base_s = 2.0, per_row_s = 0.2 }
noise = { kind = "none" }
[run]
seed = 1
warmup = 0
[sweep]
"workload.arrivals.rate" = [0.1, 0.2, 0.4]
"""

POLICY = '''
from dataclasses import dataclass
import msgspec
from simqueue.plan import Step, Wait

@dataclass(frozen=True)
class Greedy:
    """All that wait, up to ``size``."""
    size: int = 4
    def __post_init__(self):
        if self.size > 10:
            raise ValueError("size is above 10")
        if self.size == 9:
            raise KeyError("nine")
    def decider(self, grid):
        return self
    def decide(self, view):
        return Step(admit=min(view.waiting, self.size), lasts="batch") if view.waiting else Wait()


class Tagged(msgspec.Struct, frozen=True, tag_field="kind", tag="tagged"):
    size: int
    def decider(self, grid):
        return Greedy(self.size)

class NoDecider:
    pass

class NoDataclass:
    def decider(self, grid):
        return None

@dataclass(frozen=True)
class BadDecider:
    def decider(self, grid):
        return None

@dataclass(frozen=True)
class Raises:
    def decider(self, grid):
        raise RuntimeError("not today")

NOT_A_CLASS = 3
'''


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(EXAMPLE)
    return path


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The scenario's folder with policies in it; modules and paths as they were afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_policies.py").write_text(POLICY)
    (tmp_path / "own_broken.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "own_typo.py").write_text("def (:\n")
    (tmp_path / "queue.py").write_text(POLICY)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(SimqueueError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_example_becomes_the_objects_that_it_names(scenario_file: Path) -> None:
    scenario = load(scenario_file)
    assert isinstance(scenario, Scenario)
    assert scenario.workload.requests == 2000
    assert scenario.workload.arrivals == Poisson(rate=0.6)
    assert scenario.workload.prompt_tokens == Fixed(value=1)
    assert scenario.system.policy == Dynamic(max_batch=8, max_wait_s=0.0)
    assert scenario.system.cost == Affine(base_s=2.0, per_row_s=0.2)
    assert (scenario.run.seed, scenario.run.warmup) == (1, 0)
    assert scenario.sweep == {"workload.arrivals.rate": [0.1, 0.2, 0.4]}
    assert scenario.path == scenario_file


def test_what_may_be_left_out_has_its_default(scenario_file: Path) -> None:
    table = read_table(scenario_file)
    del table["run"], table["sweep"], table["system"]["noise"]
    scenario = scenario_from(table, scenario_file)
    assert (scenario.run.seed, scenario.run.warmup, scenario.run.fixed_warmup, scenario.sweep) == (0, None, 0, None)
    assert (scenario.run.replications, scenario.run.asked_precision) == (None, None)
    assert scenario.system.max_context_tokens is None
    assert not any(getattr(scenario.system.overheads, key) for key in scenario.system.overheads.__struct_fields__)


def test_a_scenario_is_made_of_a_table_that_stays_as_it_is(scenario_file: Path) -> None:
    table, again = read_table(scenario_file), read_table(scenario_file)
    assert scenario_from(table, scenario_file) == scenario_from(table, scenario_file)
    assert table == again


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "keys", "value"),
        [
            ("system.policy.max_batch=16", ["system", "policy", "max_batch"], 16),
            ("system.policy.max_wait_s = inf", ["system", "policy", "max_wait_s"], math.inf),
            ("system.policy.release=request", ["system", "policy", "release"], "request"),
            ("system.policy.release='request'", ["system", "policy", "release"], "request"),
            ('system.policy={kind="none"}', ["system", "policy"], {"kind": "none"}),
            ("run.seed=1_000", ["run", "seed"], 1000),
            ("system.overheads.handover_s=0.1", ["system", "overheads"], {"handover_s": 0.1}),
            ('sweep."system.policy.max_batch"=[1, 2]', ["sweep", "system.policy.max_batch"], [1, 2]),
            ("workload.arrivals.path=a=b", ["workload", "arrivals", "path"], "a=b"),
        ],
    )
    def test_values_are_toml_or_else_text(
        self, scenario_file: Path, override: str, keys: list[str], value: object
    ) -> None:
        found: Any = read_table(scenario_file, [override])
        for key in keys:
            found = found[key]
        assert found == value

    def test_the_last_one_wins_and_a_table_can_be_replaced_then_changed(self, scenario_file: Path) -> None:
        overrides = ("run.seed=2", "run.seed=3", "system.policy={kind='static', batch=4}", "system.policy.batch=5")
        scenario = load(scenario_file, overrides)
        assert scenario.run.seed == 3
        assert scenario.system.policy.batch == 5  # type: ignore[attr-defined]

    @pytest.mark.parametrize("override", ["nonsense", "=3", "a..b=3", "", "[x]\n[y]\na=3", "a b=3"])
    def test_one_that_is_none_is_refused(self, scenario_file: Path, override: str) -> None:
        assert "is no key.key=value" in refusal(scenario_file, override)

    def test_a_key_below_a_value_is_refused(self, scenario_file: Path) -> None:
        assert "workload.requests = 2000 is not a table" in refusal(scenario_file, "workload.requests.x=1")

    def test_a_refusal_says_what_was_overridden(self, scenario_file: Path) -> None:
        message = refusal(scenario_file, "run.seed=2", "system.policy.max_bach=16")
        assert message == (
            f"{scenario_file}: system.policy: unknown key 'max_bach'; did you mean 'max_batch'? "
            "(with --set run.seed=2 --set system.policy.max_bach=16)"
        )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        # Unknown keys and kinds.
        ("sytem.policy.max_batch=1", "unknown key 'sytem'; did you mean 'system'?"),
        ("workload.request=1", "workload: unknown key 'request'; did you mean 'requests'?"),
        ("system.polic=1", "system: unknown key 'polic'; did you mean 'policy'?"),
        ("run.sed=1", "run: unknown key 'sed'; did you mean 'seed'?"),
        ("run.zzz=1", "run: unknown key 'zzz'; there are seed, warmup"),
        ("system.noise.cv=1", "system.noise: unknown key 'cv'; it takes none"),
        ("system.overheads.handover=1", "system.overheads: unknown key 'handover'; did you mean 'handover_s'?"),
        ("system.policy.kind=dinamic", "system.policy: unknown kind 'dinamic'; did you mean 'dynamic'?"),
        ("system.policy.kind=3", "system.policy: unknown kind 3; there are none, static, dynamic, continuous"),
        ("system.cost.kind=linear", "system.cost: unknown kind 'linear'; there are affine, profile"),
        ("system.noise.kind=gauss", "system.noise: unknown kind 'gauss'; there are none, lognormal, exponential"),
        ("workload.arrivals.kind=poison", "workload.arrivals: unknown kind 'poison'; did you mean 'poisson'?"),
        ("workload.prompt_tokens.kind=fix", "workload.prompt_tokens: unknown kind 'fix'; did you mean 'fixed'?"),
        ("system.policy={max_batch=3}", "system.policy: the key 'kind' is missing: give one of none, static"),
        ("system.policy.release=bath", "system.policy.release = 'bath' is unknown: give one of 'batch', 'request'"),
        # Missing keys.
        ("system.policy={kind='static'}", "system.policy: the key 'batch' is missing"),
        ("workload={requests=3}", "workload: the key 'arrivals' is missing; there are constant, poisson"),
        ("workload={arrivals={kind='poisson', rate=1}}", "workload: requests and prompt_tokens and output_tokens"),
        ("system={policy={kind='none'}}", "system: the key 'cost' is missing; there are affine, profile"),
        ("system={}", "system: the key 'policy' is missing"),
        ("system.order={kind='least-laxity'}", "system.order: the key 'prompt_token_s' is missing: give it"),
        # Wrong types.
        ("workload=3", "workload = 3 is not a table"),
        ("system.policy=none", "system.policy = 'none' is not a table: write { kind = \"none\" }"),
        ("system.policy=vllm", "system.policy = 'vllm' is not a table: write { kind = \"vllm\" }"),
        ("system.policy=static", "system.policy = 'static' is not a table: write { kind = \"static\", ... }"),
        ("system.policy=[]", 'system.policy = [] is not a table: write { kind = "none" }'),
        (
            "workload.arrivals=poisson",
            "workload.arrivals = 'poisson' is not a table: write { kind = \"poisson\", ... }",
        ),
        ("sweep=3", "sweep = 3 is not a table"),
        ("run=[]", "run = [] is not a table"),
        ("system.policy.max_batch=true", "system.policy.max_batch = true is a boolean: give an integer"),
        ("system.policy.max_batch='16'", "system.policy.max_batch = '16' is a string: give an integer"),
        ("system.policy.max_batch=16.0", "system.policy.max_batch = 16.0 is a number: give an integer"),
        ("system.policy.max_wait_s=true", "system.policy.max_wait_s = true is a boolean: give a number"),
        ("workload.requests=true", "workload: requests = True is not a whole number"),
        ("workload.requests='3'", "workload: requests = '3' is not a whole number"),
        ("workload.arrivals.rate=fast", "workload.arrivals.rate = 'fast' is a string: give a number"),
        ("workload.arrivals={kind='mmpp', rates=[1, true], mean_stay_s=[1, 1]}", "arrivals.rates[1] = true is"),
        ("system.cost.base_s=1979-05-27", "system.cost.base_s = datetime.date(1979, 5, 27) is a date: give a number"),
        ("system.max_context_tokens=true", "system: max_context_tokens = True is not a whole number"),
        ("run.seed=1.5", "run.seed = 1.5 is a number: give an integer"),
        ("workload.arrivals={kind='users'}", "workload.arrivals: the key 'users' is missing; there are users, think_s"),
        (
            "workload.arrivals={kind='users', users=2, think_s='x'}",
            "think_s = 'x' is a string: give a number or a table",
        ),
        (
            "workload.arrivals={kind='users', users=2, think_s={kind='fixd'}}",
            "think_s: unknown kind 'fixd'; did you mean",
        ),
        ("workload.arrivals={kind='users', users=2, think_s={kind='fixed'}}", "think_s: the key 'value' is missing"),
        # Values.
        ("workload.arrivals={kind='users', users=2, think_s=-1}", "workload.arrivals: think_s = -1.0 is not a number"),
        (
            "workload.arrivals={kind='users', users=2, think_s={kind='exponential', mean=0}}",
            "workload.arrivals.think_s: mean = 0.0 is not a positive",
        ),
        ("workload.arrivals={kind='users', users=2001}", "workload: users = 2001 are more than requests = 2000"),
        ("workload.arrivals.rate=nan", "workload.arrivals.rate = nan is not finite"),
        ("workload.arrivals.rate=inf", "workload.arrivals.rate = inf is not finite"),
        ("workload.arrivals.rate=0", "workload.arrivals: rate = 0.0 is not a positive"),
        ("workload.arrivals.rate=-3", "workload.arrivals: rate = -3.0 is not a positive"),
        ("workload.arrivals={kind='mmpp', rates=[1, nan], mean_stay_s=[1, 1]}", "arrivals.rates[1] = nan is not"),
        ("workload.prompt_tokens.value=0", "workload.prompt_tokens: value = 0 is not a whole number from 1"),
        ("workload.requests=0", "workload: requests = 0 is not a whole number"),
        ("system.policy.max_batch=0", "system.policy: max_batch = 0 must be at least 1"),
        ("system.policy.max_wait_s=-inf", "system.policy.max_wait_s = -inf is not finite"),
        ("system.policy.max_wait_s=nan", "system.policy.max_wait_s = nan is not finite"),
        ("system.cost.base_s=inf", "system.cost.base_s = inf is not finite"),
        ("system.cost.base_s=-1", "system.cost: base_s = -1.0 must be a finite number of seconds"),
        ("system.cost={kind='affine'}", "system.cost: every coefficient is 0"),
        ("system.noise={kind='lognormal', cv=0}", "system.noise: cv = 0.0 must be a positive"),
        ("system.overheads.handover_s=-1", "system.overheads: handover_s = -1.0 must be"),
        ("run.seed=-1", "run: seed = -1 must be at least 0"),
        (f"run.seed={2**63}", f"run: seed = {2**63} must be at most"),
        ("run.warmup=2000", "run.warmup = 2000 leaves none of 2000 requests"),
        ("run.warmup=-1", "run: warmup = -1 must be at least 0"),
        ("run.warmup=long", "run: warmup = 'long' is neither \"auto\" nor a number of requests"),
        ("run.warmup=1.5", "run.warmup = 1.5 is a number: give an integer or a string"),
        ("run.replications=0", "run: replications = 0 must be at least 1"),
        ("run.max_replications=0", "run: max_replications = 0 must be at least 1"),
        ("run.precision=0", "run: precision = 0.0 is no share of a value"),
        ("run.precision=2", "run: precision = 2.0 is no share of a value"),
        ("run.precision_of=['response_s.p98']", "run: precision_of: unknown figure 'response_s.p98'; did you mean"),
        ("run.precision_of=[]", "run: precision_of names no figure"),
        # Parts that do not go together.
        ("system.noise={kind='empirical'}", "only a measured cost has residuals"),
        ("workload.arrivals={kind='trace', path='x.csv'}", "given beside a trace"),
        ("system.cost={kind='profile'}", "system.cost: give either name (of a shipped profile) or path"),
        ("system.cost={kind='profile', name='gpt3'}", "system.cost: no shipped profile is named 'gpt3'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(scenario_file: Path, override: str, expected: str) -> None:
    message = refusal(scenario_file, override)
    assert message.startswith(f"{scenario_file}: ")
    assert expected in message


@pytest.mark.parametrize(
    ("think_s", "think"),
    [
        ("", FixedThink(0.0)),
        (", think_s=3", FixedThink(3.0)),
        (", think_s={kind='fixed', value=3}", FixedThink(3.0)),
        (", think_s={kind='exponential', mean=2.5}", ExponentialThink(2.5)),
        (", think_s={kind='lognormal', mean=2.5, cv=1}", LognormalThink(2.5, 1.0)),
    ],
)
def test_users_think(scenario_file: Path, think_s: str, think: Think) -> None:
    arrivals = load(scenario_file, [f"workload.arrivals={{kind='users', users=64{think_s}}}"]).workload.arrivals
    assert isinstance(arrivals, Users)
    assert (arrivals.users, arrivals.think) == (64, think)


def test_only_max_wait_s_may_be_infinite(scenario_file: Path) -> None:
    policy = load(scenario_file, ["system.policy.max_wait_s=inf"]).system.policy
    assert policy == Dynamic(max_batch=8, max_wait_s=math.inf)


@pytest.mark.parametrize(
    ("overheads", "fits"),
    [("{ request_path_s = 0.1, response_path_s = 0.1 }", True), ("{ handover_s = 0.1 }", False)],
)
def test_overheads_that_a_policy_cannot_have(scenario_file: Path, overheads: str, fits: bool) -> None:
    overrides = ("system.policy={kind='continuous', max_seqs=8}", f"system.overheads={overheads}")
    if fits:
        assert load(scenario_file, overrides)
    else:
        assert "stand between run-to-completion batches" in refusal(scenario_file, *overrides)


def test_overheads_of_the_profile(scenario_file: Path) -> None:
    paths = {name: 1e-3 * i for i, name in enumerate(Paths.__struct_fields__, 1)}
    served = msgspec.structs.replace(load_profile("gpt2-h200-bf16-graph"), serving=serving(paths=Paths(**paths)))
    save_profile(served, scenario_file.parent / "served.json")
    overrides = ("system.cost={kind='profile', path='served.json'}", "system.overheads=profile")
    hidden = dict.fromkeys(("exposed_s", "exposed_per_row_s", "pause_s", "pause_per_row_s"), 0.0)
    assert load(scenario_file, overrides).system.overheads == Overheads(**{**paths, **hidden})
    joining = load(scenario_file, (*overrides, "system.policy={kind='continuous', max_seqs=8}")).system.overheads
    no_batches = {"handover_s": 0.0, "handover_per_request_s": 0.0}
    assert joining == Overheads(**{**paths, **hidden, **no_batches})
    apart = "system.policy={kind='tgi'}", "workload.max_output_tokens=64"
    assert load(scenario_file, (*overrides, *apart)).system.overheads == Overheads(**{**paths, **no_batches})


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ("{kind='affine', base_s=0.1}", 'system.overheads = "profile": the cost has none'),
        (
            "{kind='profile', name='gpt2-h200-bf16-eager'}",
            "overheads: profile gpt2-h200-bf16-eager has no serving",
        ),
    ],
)
def test_overheads_of_a_profile_without_a_serving_run(scenario_file: Path, cost: str, message: str) -> None:
    assert message in refusal(scenario_file, f"system.cost={cost}", "system.overheads=profile")


class TestFiles:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert "cannot be read (No such file or directory)" in refusal(tmp_path / "nowhere.toml")

    def test_a_folder(self, tmp_path: Path) -> None:
        assert "cannot be read (Is a directory)" in refusal(tmp_path)

    def test_text_that_is_no_toml(self, tmp_path: Path) -> None:
        path = tmp_path / "s.toml"
        path.write_text("[workload]\nrequests = 3\narrivals = {{}\n")
        assert f"{path}: is no TOML: " in (message := refusal(path))
        assert "line 3" in message

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "s.toml"
        path.write_bytes(b"[workload]\n# \xff\n")
        assert "not UTF-8" in refusal(path)

    @pytest.mark.parametrize("name", ["workload", "system"])
    def test_a_missing_table(self, scenario_file: Path, name: str) -> None:
        table = read_table(scenario_file)
        del table[name]
        with pytest.raises(ConfigError, match=rf"the table \[{name}\] is missing"):
            scenario_from(table, scenario_file)

    def test_paths_start_from_the_scenarios_folder(
        self, scenario_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        inner = tmp_path / "inner"
        inner.mkdir()
        (inner / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0.5,3,2\n1,2,1\n")
        save_profile(load_profile(shipped()[0]), inner / "mine.json")
        path = inner / "s.toml"
        path.write_text(
            '[workload]\narrivals = { kind = "trace", path = "trace.csv" }\n'
            '[system]\npolicy = { kind = "none" }\ncost = { kind = "profile", path = "mine.json" }\n'
        )
        monkeypatch.chdir(tmp_path)
        scenario = load("inner/s.toml")
        workload = make_workload(scenario.workload, 0, scenario.path.parent)
        assert workload.prompt_tokens.tolist() == [3, 2]
        assert isinstance(scenario.system.cost, Measured)
        assert scenario.system.cost.path == "inner/mine.json"
        assert simulate(workload, scenario.system).summary()["requests"] == 2

    def test_a_profile_that_is_not_there_or_not_whole(self, scenario_file: Path, tmp_path: Path) -> None:
        override = "system.cost={kind='profile', path='p.json'}"
        assert f"system.cost: profile {tmp_path / 'p.json'}: cannot be read" in refusal(scenario_file, override)
        (tmp_path / "p.json").write_text('{"schema": 1, "name": "tr')
        assert "is not whole JSON" in refusal(scenario_file, override)

    def test_continuous_batching_on_an_eager_profile(self, scenario_file: Path) -> None:
        eager = next(name for name in shipped() if name.endswith("eager"))
        overrides = ("system.policy={kind='continuous', max_seqs=8}", f"system.cost={{kind='profile', name='{eager}'}}")
        assert "cannot join or leave between steps" in refusal(scenario_file, *overrides)


class TestSize:
    def test_more_than_an_hour_or_the_memory_is_refused_with_the_estimate(self, scenario_file: Path) -> None:
        with pytest.raises(WorkloadError, match=r"would take about 27\.8 hours .* GB of memory .* ask for at most \d"):
            load(scenario_file, ["workload.requests=10_000_000_000"])

    def test_steps_count_where_they_are_made_one_by_one(self, scenario_file: Path) -> None:
        overrides = ["workload.requests=1_000_000", "workload.output_tokens.value=2000"]
        assert load(scenario_file, overrides)  # answers leave with their batch, which is one leap
        overrides += ["system.policy={kind='none'}", "system.noise={kind='exponential'}"]
        with pytest.raises(WorkloadError, match=r"about 1\.61 hours"):
            load(scenario_file, overrides)
        assert load(scenario_file, [*overrides, "workload.output_tokens.max=1"])

    def test_there_are_no_more_rows_than_users(self, scenario_file: Path) -> None:
        overrides = ["workload.requests=1_000_000", "workload.output_tokens.value=2000"]
        overrides += ["system.policy={kind='continuous', max_seqs=64}", "system.noise={kind='exponential'}"]
        assert load(scenario_file, overrides)
        assert load(scenario_file, [*overrides, "workload.arrivals={kind='users', users=64}"])
        with pytest.raises(WorkloadError, match=r"about 1\.61 hours"):
            load(scenario_file, [*overrides, "workload.arrivals={kind='users', users=1}"])


class TestOwnPolicies:
    def load(self, folder: Path, policy: str) -> Scenario:
        (folder / "scenario.toml").write_text(EXAMPLE)
        return load(folder / "scenario.toml", [f"system.policy={policy}"])

    @pytest.mark.parametrize(
        ("policy", "size"),
        [
            ("{kind='own_policies:Greedy'}", 4),
            ("{kind='own_policies:Greedy', size=3}", 3),
            ("{kind='own_policies:Tagged', size=5}", 5),
        ],
    )
    def test_one_beside_the_scenario_is_made_of_its_fields_and_runs(
        self, own_modules: Path, policy: str, size: int
    ) -> None:
        scenario = self.load(own_modules, policy)
        assert scenario.system.policy.size == size  # type: ignore[attr-defined]
        workload = make_workload(scenario.workload, 0)
        assert simulate(workload, scenario.system).leaps["prefill_rows"].max() == size

    def test_one_in_the_current_folder(
        self, own_modules: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(own_modules)
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        assert self.load(elsewhere, "{kind='own_policies:Greedy'}").system.policy != NoBatching()

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("{kind='own_policies:Greedy', siz=3}", "system.policy: unknown key 'siz'; did you mean 'size'?"),
            ("{kind='own_policies:Greedy', size='a'}", "system.policy.size = 'a' is a string: give an integer"),
            ("{kind='own_policies:Greedy', size=true}", "system.policy.size = true is a boolean: give an integer"),
            ("{kind='own_policies:Greedy', size=11}", "system.policy: size is above 10"),
            ("{kind='own_policies:Greedy', size=9}", "making a Greedy failed (KeyError: 'nine')"),
            ("{kind='own_policies:Tagged'}", "the key 'size' is missing"),
            ("{kind='own_policies:Gredy'}", "has no class 'Gredy'; did you mean 'Greedy'?"),
            ("{kind='own_policies:NOT_A_CLASS'}", "has no class 'NOT_A_CLASS'"),
            ("{kind='own_policies:NoDecider'}", "has no method decider(grid)"),
            ("{kind='own_policies:NoDataclass'}", "is no dataclass: write @dataclass(frozen=True)"),
            ("{kind='own_policies:BadDecider'}", "returned None, which has no method decide(view)"),
            ("{kind='own_policies:Raises'}", "its decider(grid) failed (RuntimeError: not today)"),
            ("{kind='own_missing:Greedy'}", "there is no module 'own_missing'"),
            ("{kind='own_missing.deep:Greedy'}", "there is no module 'own_missing'"),
            ("{kind='own_broken:Greedy'}", "importing own_broken failed (ModuleNotFoundError: No module named"),
            ("{kind='own_typo:Greedy'}", "importing own_typo failed (SyntaxError:"),
            ("{kind=':Greedy'}", "is no name of a class: write package.module:Class"),
            ("{kind='own_policies:'}", "is no name of a class"),
            ("{kind='queue:Greedy'}", "which is already imported: rename it"),
        ],
    )
    def test_one_that_cannot_be_used_is_refused(self, own_modules: Path, policy: str, expected: str) -> None:
        with pytest.raises(ConfigError) as caught:
            self.load(own_modules, policy)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_two_files_of_one_name_are_not_mistaken_for_each_other(
        self, own_modules: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        self.load(own_modules, "{kind='own_policies:Greedy'}")
        other = tmp_path_factory.mktemp("other")
        (other / "own_policies.py").write_text(POLICY)
        with pytest.raises(ConfigError, match="already imported: rename it"):
            self.load(other, "{kind='own_policies:Greedy'}")


def test_a_set_value_keeps_its_type(scenario_file: Path) -> None:
    noise = load(scenario_file, ["system.noise={kind='lognormal', cv=1}"]).system.noise
    assert noise == LognormalNoise(cv=1.0)
    assert isinstance(noise.cv, float)
