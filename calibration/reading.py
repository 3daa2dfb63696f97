"""What the coefficients of a fitted curve mean on the machine, in words."""

from __future__ import annotations

from collections.abc import Callable

from simqueue.profile import Curve, Model

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


def read_decode(curve: Curve, model: Model) -> tuple[str, ...]:
    """Fixed cost, per row and per context token of a decode step, and the memory rate that this is."""
    rows = curve.knots[-1]
    fixed = curve.decode(1, 1)
    lines = [
        f"fixed: a step of one row with an empty cache takes {_ms(fixed)} (kernel launches and reading the weights)"
    ]
    flat = _flat_until(lambda n: curve.decode(n, 1), fixed, rows)
    lines.append(f"launch-bound up to {flat} rows on short contexts: within 10 % of one row's time")
    per_row = (curve.decode(rows, 1) - fixed) / max(1, rows - 1)
    lines.append(f"per row: {_us(per_row)} on average up to {rows} rows")
    context = curve.per_context_token_s[-1]
    if context > 0:
        rate = 2 * model.layers * model.hidden * _BYTES.get(model.dtype, 4) / context
        lines.append(
            f"per context token at {rows} rows: {context * 1e9:.3g} ns, reading its keys and values at "
            f"{rate / 1e12:.2g} TB/s (memory-bound where rows x context is large)"
        )
    return tuple(lines)


def read_prefill(curve: Curve, model: Model) -> tuple[str, ...]:
    """Fixed cost and per token of a prefill, and the arithmetic rate that this is."""
    on = curve.pad_context[-1] if curve.pad_context else 0
    fixed = curve.prefill(1, 1, on)
    what = "on a context" if on else "from a prompt's start"
    lines = [f"fixed: the smallest launch {what} takes {_ms(fixed)}"]
    flat = _flat_until(lambda n: curve.prefill(1, n, on), fixed, model.max_context)
    lines.append(f"launch-bound up to {flat} tokens in one row: within 10 % of the smallest launch")
    rows = max(1, min(64, 16_384 // 256))
    per_token = (curve.prefill(rows, 256, on) - curve.prefill(rows, 128, on)) / (rows * 128)
    if per_token > 0:
        rate = 2 * model.parameters / per_token
        lines.append(
            f"per new token at {rows} rows of 128 to 256: {_us(per_token)}, {rate / 1e12:.3g} TFLOP/s by "
            "2 x parameters (compute-bound where there are many tokens)"
        )
    return tuple(lines)


def _flat_until(at: Callable[[int], float], fixed: float, most: int) -> int:
    """The largest size, in doublings, that still costs no more than 1.1 times ``fixed``."""
    size = 1
    while size * 2 <= most and at(size * 2) <= 1.1 * fixed:
        size *= 2
    return size


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us"
