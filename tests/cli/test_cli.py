"""The command line: what it prints and where, what it writes, and how it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from simqueue import Result
from simqueue.cli.main import app
from simqueue.cli.table import readable
from simqueue.config import POLICIES, load

SIMQUEUE = shutil.which("simqueue", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))

EXAMPLE = """\
[workload]
requests = 40_000
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
replications = 1
[sweep]                         # only for sweep: every combination, each with its own label
"workload.arrivals.rate" = [0.1, 0.2, 0.4]
"system.policy" = [ { kind = "none" }, { kind = "continuous", max_seqs = 64 } ]
"""
TRACE = "arrival_s,prompt_tokens,output_tokens\n0.5,10,2\n1.0,20,3\n1.5,900,200\n"
COST = "{kind='profile', name='gpt2-h200-bf16-graph'}"
SMALL = f"{{policy={{kind='vllm'}}, cost={COST}, memory={{gpu_memory_gib=0.1}}}}"
FEW = ("--set", "workload.requests=500")
STATS = {"mean", "p50", "p90", "p95", "p99", "max"}
TIMES = ("queueing_s", "service_s", "response_s", "ttft_s", "tpot_s", "itl_s")


def trace(path: str) -> str:
    """An override that takes the workload from a trace."""
    return f"workload={{arrivals={{kind='trace', path='{path}'}}}}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the example in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(EXAMPLE)
    return tmp_path


def invoke(*arguments: str) -> Any:
    """In this process; whatever is not refused in order fails the test."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False, prog_name="simqueue")


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The installed command in a process of its own."""
    assert SIMQUEUE is not None
    return subprocess.run([SIMQUEUE, *arguments], capture_output=True, text=True, check=False, **options)


def assert_refused(done: Any, *words: str) -> None:
    code = done.exit_code if hasattr(done, "exit_code") else done.returncode
    assert (code, done.stdout) == (2, "")
    assert done.stderr.startswith("simqueue: error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


class TestSimulate:
    def test_the_example_gives_the_figures_as_one_json_object(self, folder: Path) -> None:
        done = command("simulate", "s.toml", "--json")
        assert done.returncode == 0
        summary = json.loads(done.stdout, parse_constant=pytest.fail)
        assert summary["requests"] == 40_000
        assert summary["unstable"] is False
        assert summary["throughput_rps"] == pytest.approx(0.6, rel=0.02)
        assert 0 < summary["utilisation"] < 1
        assert set(summary["batch_size"]) == {"mean_per_step", "mean_per_request"}
        assert [summary[key] and set(summary[key]) for key in TIMES] == [STATS] * 4 + [None] * 2
        assert summary["response_s"]["mean"] == pytest.approx(
            summary["queueing_s"]["mean"] + summary["service_s"]["mean"]
        )
        assert done.stderr == "notice: s.toml: [sweep] is ignored here; it is for `simqueue sweep`\n"

    def test_users_are_told_in_place_of_a_load(self, folder: Path) -> None:
        users = ("--set", "workload.arrivals={kind='users', users=8, think_s=1}")
        done = invoke("simulate", "s.toml", *FEW, *users)
        assert done.exit_code == 0
        # 8 at once in 2 + 8 * 0.2 s.
        assert "  users        8, who wait for their answers (2.222 requests/s at saturation)\n" in done.stdout
        assert "load" not in done.stdout
        summary = json.loads(invoke("simulate", "s.toml", *FEW, *users, "--json").stdout)
        assert (summary["users"], summary["unstable"]) == (8, False)

    def test_a_run_is_written_and_is_the_one_that_was_printed(self, folder: Path) -> None:
        done = invoke("simulate", "s.toml", "--json", "--out", "deep/out", *FEW)
        assert done.exit_code == 0
        assert sorted(path.name for path in Path("deep/out").iterdir()) == [
            "requests.parquet",
            "steps.parquet",
            "summary.json",
        ]
        summary, written = json.loads(done.stdout), json.loads(Path("deep/out/summary.json").read_text())
        assert written.pop("provenance")["seed"] == 1
        assert written == summary
        # A single run's figures are its own, and what is said of their intervals comes after them.
        own = Result.load("deep/out").summary()
        assert list(summary.items())[: len(own)] == list(own.items())
        further = "half_width level replications sections warmup warmup_found too_short note"
        assert list(summary)[len(own) :] == further.split()
        columns = parquet.read_schema("deep/out/requests.parquet").names
        wanted = "request_id arrival_s queueing_s service_s response_s ttft_s prompt_tokens output_tokens"
        assert set(wanted.split()) <= set(columns)

    def test_overrides_are_applied(self, folder: Path) -> None:
        changed = ("--set", "run.warmup=100", "--set", 'system.policy={kind="none"}')
        done = invoke("simulate", "s.toml", "--json", *FEW, *changed)
        summary = json.loads(done.stdout)
        assert summary["requests"] == 400
        assert summary["batch_size"]["mean_per_step"] == 1

    def test_the_table_names_every_figure(self, folder: Path) -> None:
        done = invoke("simulate", "s.toml", *FEW)
        assert done.exit_code == 0
        for word in (*STATS, "queueing", "service", "response", "TTFT", "TPOT", "ITL", "throughput", "utilisation"):
            assert word in done.stdout
        assert "UNSTABLE" not in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80

    def test_intervals_are_printed_below_their_figures(self, folder: Path) -> None:
        several = ("--set", "run.replications=4", "--set", "run.warmup=20")
        done = invoke("simulate", "s.toml", *FEW, *several)
        assert done.exit_code == 0
        assert max(map(len, done.stdout.splitlines())) <= 80
        lines = done.stdout.splitlines()
        response = next(i for i, line in enumerate(lines) if line.startswith(" response"))
        assert lines[response + 1].count("±") == 5
        assert "  requests     1920 counted in 4 replications, the first 20 of each left out" in lines
        assert "  intervals    ± is half of one of 95 %, from 4 replications" in lines
        # 4.8 requests of a replication are beyond their p99.
        assert "(±" in lines[response + 1]
        assert any(line.startswith("  too short    for what is in brackets:") for line in lines)
        summary = json.loads(invoke("simulate", "s.toml", "--json", *FEW, *several).stdout)
        assert "response_s.p99" in [entry["figure"] for entry in summary["too_short"]]
        assert summary["half_width"]["throughput_rps"] > 0

    def test_longer_runs_until_it_is_precise(self, folder: Path) -> None:
        asked = ("--set", "run.replications=2", "--set", "run.precision_of=['response_s.mean']")
        done = invoke("simulate", "s.toml", *FEW, *asked, "--set", "run.precision=0.1")
        assert "precision    10 % asked, " in done.stdout
        done = invoke(
            "simulate", "s.toml", *FEW, *asked, "--set", "run.precision=0.001", "--set", "run.max_replications=4"
        )
        assert "NOT REACHED: 0.1 % asked, " in done.stdout
        assert " found in 2,000 requests" in done.stdout

    def test_the_warmup_is_drawn(self, folder: Path) -> None:
        done = invoke("simulate", "s.toml", *FEW, "--set", "run.warmup=auto", "--welch", "deep/w.svg")
        assert (done.exit_code, done.stderr.splitlines()[1:]) == (0, ["written to deep/w.svg", "written to deep/w.png"])
        assert "response time, s" in Path("deep/w.svg").read_text()

    def test_an_overloaded_run_says_so(self, folder: Path) -> None:
        done = invoke("simulate", "s.toml", *FEW, "--set", "workload.arrivals.rate=3")
        assert done.stdout.count("UNSTABLE") == 2
        assert "no steady state" in done.stdout
        summary = json.loads(invoke("simulate", "s.toml", "--json", *FEW, "--set", "workload.arrivals.rate=3").stdout)
        assert summary["unstable"] is True

    @pytest.mark.parametrize(
        ("overlong", "said", "counted"),
        [("drop", "1 requests dropped, 0 clipped", 2), ("clip", "0 requests dropped, 1 clipped", 3)],
    )
    def test_rows_that_are_too_long_are_counted(self, folder: Path, overlong: str, said: str, counted: int) -> None:
        (folder / "t.csv").write_text(TRACE)
        rule = f"workload.arrivals.overlong={overlong}"
        limit = "system.max_context_tokens=1024"
        done = invoke("simulate", "s.toml", "--set", trace("t.csv"), "--set", rule, "--set", limit)
        assert said in done.stdout
        assert f"requests     {counted}\n" in done.stdout

    def test_lengths_that_were_clipped_are_counted(self, folder: Path) -> None:
        long = "workload.prompt_tokens={kind='uniform', low=1, high=10, max=5}"
        assert " % of prompts and 0 % of outputs" in invoke("simulate", "s.toml", *FEW, "--set", long).stdout

    def test_a_policy_beside_the_scenario(self, folder: Path) -> None:
        (folder / "own_cli_policy.py").write_text(
            "from dataclasses import dataclass\nfrom simqueue.plan import Step, Wait\n\n@dataclass(frozen=True)\n"
            "class Pair:\n    size: int = 2\n    def decider(self, grid): return self\n"
            "    def decide(self, view):\n        some = min(view.waiting, self.size)\n"
            "        return Step(admit=some, lasts='batch') if some else Wait()\n"
        )
        (folder / "sub").mkdir()
        own = ("--set", "system.policy={kind='own_cli_policy:Pair'}")
        done = command("simulate", "../s.toml", "--json", *own, *FEW, cwd=folder / "sub")
        assert json.loads(done.stdout)["batch_size"]["mean_per_request"] <= 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("simulate", "nowhere.toml"), ("nowhere.toml", "cannot be read")),
            (("simulate", "s.toml", "--set", "system.policy.max_bach=3"), ("did you mean 'max_batch'?",)),
            (("simulate", "s.toml", "--set", "nonsense"), ("--set 'nonsense' is no key.key=value",)),
            (("simulate", "s.toml", "--set", "workload.arrivals.rate=nan"), ("rate = nan",)),
            (("simulate", "s.toml", "--set", "workload.arrivals.rate=-1"), ("rate = -1.0",)),
            (("simulate", "s.toml", "--set", "workload.requests=10_000_000_000"), ("hours", "GB of memory")),
            (("simulate", "s.toml", "--set", "system.policy={kind='own_nobody:Has'}"), ("no module 'own_nobody'",)),
            (("simulate", "s.toml", "--set", "system.cost={kind='profile', path='p.json'}"), ("not whole JSON",)),
            (("simulate", "s.toml", "--set", "system.cost={kind='profile', path='v.json'}"), ("schema 99",)),
            (
                ("simulate", "s.toml", "--set", "workload={arrivals={kind='trace', path='no.csv'}}"),
                ("no.csv: no such",),
            ),
            (("simulate", "s.toml", "--set", trace("empty.csv")), ("is empty",)),
            (("simulate", "s.toml", "--set", trace("bad.csv")), ("error: s.toml: bad.csv, line 3", "'x'")),
            (
                ("simulate", "s.toml", "--set", f"system={SMALL}"),
                ("error: s.toml: memory: gpu_memory_gib = 0.1 holds no block",),
            ),
            (("simulate", "s.toml", "--set", trace("back.csv")), ("line 3",)),
            (
                ("simulate", "s.toml", "--set", "system.max_context_tokens=1024", "--set", trace("t.csv")),
                ("900 prompt + 200 output tokens", "'drop' or 'clip'"),
            ),
            (("simulate", "s.toml", "--out", "."), ("holds", "which simqueue did not write")),
            (("simulate", "s.toml", "--out", "s.toml"), ("is no folder",)),
            (("simulate", "s.toml", "--welch", "s.toml/w.svg"), ("s.toml is no folder",)),
            (("simulate", "s.toml", "--set", "run.precision=0.1"), ("precision = 0.1, but replications = 1",)),
            (("simulate", "s.toml", "--set", "run.warmup=soon"), ("warmup = 'soon' is neither",)),
            (("simulate", "s.toml", "--out", "/proc/nobody/out", *FEW), ("cannot be written",)),
            (("simulate", "broken.toml"), ("is no TOML", "line 1")),
            (("init", "s.toml"), ("is there already",)),
            (("init", "nowhere/s.toml"), ("cannot be written",)),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, tuple) and value[0] in ("simulate", "init") else "",
    )
    def test_what_cannot_be_used_ends_in_one_line_and_leaves_nothing(
        self, folder: Path, arguments: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        (folder / "p.json").write_text('{"schema": 1, "name"')
        (folder / "v.json").write_text('{"schema": 99}')
        (folder / "t.csv").write_text(TRACE)
        (folder / "empty.csv").write_text("")
        (folder / "bad.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,x,1\n")
        (folder / "back.csv").write_text("arrival_s,prompt_tokens,output_tokens\n3,1,1\n1,1,1\n")
        (folder / "broken.toml").write_text("[workload\n")
        (folder / "s.toml").write_text(EXAMPLE.partition("[sweep]")[0])
        before = {path: path.read_bytes() for path in folder.iterdir()}
        assert_refused(invoke(*arguments), *words)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (("simulate", "s.toml", "--sett", "a=1"), "--sett"),
            (("simulate",), "Missing argument"),
            (("simulat", "s.toml"), "simulat"),
            (("simulate", "s.toml", "--set", "run.sed=1"), "did you mean 'seed'?"),
        ],
    )
    def test_the_command_itself_refuses_in_one_line(self, folder: Path, arguments: tuple[str, ...], word: str) -> None:
        assert_refused(command(*arguments), word)


class TestProcess:
    @pytest.mark.parametrize("replications", [1, 3])
    def test_ctrl_c_ends_with_130_and_leaves_nothing(self, folder: Path, replications: int) -> None:
        assert SIMQUEUE is not None
        forever = ("--set", "workload.requests=5_000_000", "--out", "out", "--set", f"run.replications={replications}")
        running = subprocess.Popen(
            [SIMQUEUE, "simulate", "s.toml", *forever], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert running.stderr is not None
        first = running.stderr.readline()  # it is past its imports when it has something to say
        running.send_signal(signal.SIGINT)
        rest = running.communicate(timeout=60)[1]
        assert first.startswith("notice: ")
        assert (running.returncode, rest) == (130, "simqueue: interrupted\n")
        assert [path.name for path in folder.iterdir()] == ["s.toml"]

    @pytest.mark.parametrize("arguments", [("policies",), ("simulate", "s.toml", "--json", *FEW)])
    def test_a_reader_that_leaves_is_no_error(self, folder: Path, arguments: tuple[str, ...]) -> None:
        assert SIMQUEUE is not None
        reading, writing = os.pipe()
        os.close(reading)
        try:
            reader_gone = {"stdout": writing, "stderr": subprocess.PIPE}
            done = subprocess.run([SIMQUEUE, *arguments], text=True, check=False, **reader_gone)
        finally:
            os.close(writing)
        assert done.returncode == 1
        assert "Error" not in done.stderr
        assert "Traceback" not in done.stderr

    def test_help_waits_for_nothing_heavy(self) -> None:
        code = (
            "import sys; sys.argv = ['simqueue', '--help']\nimport simqueue.cli.main as cli\n"
            "try: cli.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
            "heavy = {'numpy', 'msgspec', 'simpy', 'pyarrow', 'scipy', 'matplotlib', 'torch'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        for verb in ("simulate", "sweep", "calibrate", "profiles", "policies", "init"):
            assert f"\n  {verb} " in done.stdout

    def test_importing_simqueue_loads_nothing_heavy(self) -> None:
        code = (
            "import sys, simqueue\n"
            "heavy = {'numpy', 'torch', 'simpy', 'scipy.stats', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
            "assert not heavy, heavy\n"
            "from simqueue import simulate, make_workload, System\n"
            "heavy = {'torch', 'scipy', 'matplotlib', 'pyarrow', 'pandas'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_small_file_is_simulated_at_once(self, folder: Path) -> None:
        """A second is what it takes to import what it needs; each of these would take as long again, or longer."""
        code = (
            f"import sys; sys.argv = ['simqueue', 'simulate', 's.toml', *{FEW}]\nimport simqueue.cli.main as cli\n"
            "try: cli.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
            "heavy = {'torch', 'scipy', 'matplotlib', 'pyarrow', 'pandas'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "throughput" in done.stdout

    def test_the_version(self) -> None:
        from importlib.metadata import version

        assert command("--version").stdout == f"simqueue {version('simqueue')}\n"

    def test_without_a_verb_there_is_help(self) -> None:
        done = command()
        assert done.returncode == 0
        assert "Usage: simqueue" in done.stdout


class TestInit:
    def test_what_it_writes_runs_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert "simqueue simulate scenario.toml" in invoke("init").stdout
        assert [path.name for path in tmp_path.iterdir()] == ["scenario.toml"]
        summary = json.loads(invoke("simulate", "scenario.toml", "--json", "--set", "run.replications=1").stdout)
        assert summary["unstable"] is False
        assert summary["itl_s"]["p99"] > 0

    def test_what_its_comments_offer_is_there(self, folder: Path) -> None:
        invoke("init", "mine.toml")
        lines = (folder / "mine.toml").read_text().splitlines()
        keys = ("# policy = ", "# cost = ", "# overheads = ")
        offered = [line.removeprefix("# ") for line in lines if line.startswith(keys)]
        assert len(offered) == 5
        for line in offered:
            key, _, value = line.partition(" = ")
            settings = [f"system.{key}={value}"]
            if key == "overheads":
                settings.append("system.policy={kind='none'}")
            assert load(folder / "mine.toml", settings)

    def test_its_sweep_is_one(self, folder: Path) -> None:
        from simqueue.config import read_table
        from simqueue.sweep import plan

        invoke("init", "mine.toml")
        head, _, sweep = (folder / "mine.toml").read_text().partition("# [sweep]\n")
        (folder / "mine.toml").write_text(f"{head}[sweep]\n{sweep.replace('# ', '')}")
        assert len(plan(read_table("mine.toml"), Path("mine.toml")).cells) == 12


def test_policies_are_listed_with_their_knobs_and_defaults() -> None:
    done = invoke("policies")
    assert done.exit_code == 0
    for kind, policy in POLICIES.items():
        assert f"{kind}: " in done.stdout
        for knob in policy.__struct_fields__:
            assert f"  {knob} " in done.stdout
    assert "max_wait_s   number                 0.0" in done.stdout
    assert "max_seqs     integer   required" in done.stdout
    said = [line.split() for line in done.stdout.splitlines()]
    assert ["preferred_batch_size", "integers", "[]"] in said
    assert ["enable_chunked_context", "true", "or", "false", "false"] in said
    assert ": knob type default" not in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1.0, "1 s"),
        (123456.0, "1.235e+05 s"),
        (0.0123456, "12.35 ms"),
        (1.5e-6, "1.5 us"),
        (8e-9, "8 ns"),
        (0.99999, "1000 ms"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert readable(seconds) == text
