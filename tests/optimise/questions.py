"""A small scenario to ask about."""

from __future__ import annotations

from collections.abc import Callable

from simqueue.optimise.question import Question

SCENARIO = """
[workload]
requests = 1000
arrivals = { kind = "poisson", rate = 2.5 }
prompt_tokens = { kind = "fixed", value = 1 }
output_tokens = { kind = "fixed", value = 1 }
[system]
policy = { kind = "none" }
cost = { kind = "affine", base_s = 1.0 }
[run]
seed = 1
"""
Ask = Callable[..., Question]
