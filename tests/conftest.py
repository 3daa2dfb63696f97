"""Settings of every test: random cases are the same in every run (``--hypothesis-profile=explore`` looks further)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Few enough for the whole suite to stay short; every multiple that a test asks for is of this.
settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", parent=settings.get_profile("fixed"), derandomize=False, max_examples=2000)
settings.load_profile("fixed")
