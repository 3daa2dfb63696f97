"""`simqueue calibrate --check` passes on a CPU for every executor, and notices one that is wrong."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from calibration.check import check
from simqueue.errors import SimqueueError
from simqueue.live.device.static import StaticModel


@pytest.fixture(autouse=True)
def fewer_prompts(monkeypatch):
    """Some 280 tokens, which tell as well; a processor takes long for each."""
    monkeypatch.setattr("calibration.check._PROMPTS", 12)


@pytest.mark.parametrize("runner", ["graph", "eager", "naive"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_check_passes_on_a_cpu(runner, dtype):
    found = check("tiny", runner, dtype, "cpu")
    assert found.equal >= (0.999 if dtype == "fp32" else 0.5)


def test_the_check_notices_a_token_of_another_context(monkeypatch):
    monkeypatch.setattr(StaticModel, "copy", lambda *_: None)
    with pytest.raises(SimqueueError, match="check failed"):
        check("tiny", "graph", "fp32", "cpu")
