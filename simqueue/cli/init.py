"""`simqueue init`: a commented scenario to start from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from simqueue.errors import OutputError

SCENARIO = """\
# A scenario of simqueue. Run it:  simqueue simulate scenario.toml
# Change a value for one run:      simqueue simulate scenario.toml --set system.policy.max_seqs=16
# Times are in seconds; a key that is left out has its default.

[workload]
requests = 10_000

# When requests come. Also: { kind = "constant", rate = 400.0 }, { kind = "gamma", rate = 400.0, cv = 2.0 } (bursty),
# { kind = "mmpp", rates = [800.0, 0.0], mean_stay_s = [10.0, 10.0] } (on and off),
# { kind = "varying", points = [[0, 100.0], [60, 800.0]] } (a rate that follows the clock),
# { kind = "batches", of = { kind = "poisson", rate = 400.0 }, size = 4 } (several at once),
# { kind = "users", users = 64, think_s = { kind = "exponential", mean = 0.5 } } (who wait for their answers),
# { kind = "sessions", rate = 80.0, turns = 5, think_s = 2.0 } (conversations whose prompts grow), and
# { kind = "trace", path = "trace.csv" }, with columns arrival_s,prompt_tokens,output_tokens or in a public format:
# leave out prompt_tokens and output_tokens, which it has, and requests for all of it.
arrivals = { kind = "poisson", rate = 400.0 }

# How long they are, in tokens. Also: { kind = "fixed", value = 64 }, { kind = "uniform", low = 1, high = 128 },
# { kind = "empirical", values = [12, 80, 200] }; each takes min and max.
prompt_tokens = { kind = "lognormal", mean = 60, cv = 0.66, max = 512 }
output_tokens = { kind = "geometric", mean = 40, max = 512 }
# What else is known of each: max_output_tokens = 256, prediction = 0.5 (of the output; a coefficient of variation),
# patience_s = 10.0, ttft_slo_s = 0.5, tpot_slo_s = 0.05 (what is promised to them). Several classes of clients:
# [[workload.classes]] in place of all but `requests`.

[system]
# Who is served when; `simqueue policies` lists them all with their knobs.
policy = { kind = "continuous", max_seqs = 64 }
# policy = { kind = "none" }
# policy = { kind = "static", batch = 8 }
# policy = { kind = "dynamic", max_batch = 8, max_wait_s = 0.02 }

# What a step of the model costs: measured (`simqueue profiles` lists what there is), or a formula of your own.
cost = { kind = "profile", name = "gpt2-h200-bf16-graph" }
# cost = { kind = "affine", base_s = 0.8e-3, per_row_s = 8e-6, per_new_token_s = 8e-6, per_context_token_s = 2e-9 }

# How steps vary. Also: { kind = "lognormal", cv = 0.1 }, { kind = "exponential" }, { kind = "erlang", shape = 4 },
# { kind = "empirical" }: as the profile's own repeats did, and { kind = "serving" }: as its serving run did.
noise = { kind = "none" }

# What a server costs beside the model; all 0 unless given. "profile": what the profile's serving run found.
# overheads = { request_path_s = 0.001, response_path_s = 0.001 }

[run]
seed = 1
# Independent runs, each with draws of its own, which intervals are from. (`sweep` and `live` run everything once.)
replications = 10
# The first requests of each find the system empty, and are left out of every figure. For `simulate` also "auto": as
# many as its runs show to be needed.
warmup = 1_000
# Go on until the half-width of an interval is at most 2 % of the figure:
# precision = 0.02
# precision_of = ["response_s.p99"]
# max_replications = 160

# For `simqueue sweep scenario.toml`: every combination of these lists. `load` is the rate as a share of what each
# policy can do at most (users have no rate: sweep over "workload.arrivals.users" in its place).
# [sweep]
# load = [0.2, 0.5, 0.8, 0.9]
# "system.policy" = [ { kind = "none" }, { kind = "dynamic", max_batch = 8 }, { kind = "continuous", max_seqs = 64 } ]
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("init")(init)


def init(file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("scenario.toml")) -> None:
    """Write a commented scenario to start from."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        aside.write_text(SCENARIO.replace("scenario.toml", file.name), encoding="utf-8")
        try:
            # Unlike a renaming, this never replaces a file.
            file.hardlink_to(aside)
        finally:
            aside.unlink()
    except FileExistsError:
        raise OutputError(f"{file}: is there already: give another name") from None
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror}): give another name") from None
    typer.echo(f"wrote {file}; next: simqueue simulate {file}")
