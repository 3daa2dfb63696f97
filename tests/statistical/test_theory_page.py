"""What docs/theory.md shows is what happens."""

import contextlib
import io
import re
from pathlib import Path

from queues import QUEUES

PAGE = (Path(__file__).parents[2] / "docs" / "theory.md").read_text()


def test_the_example_prints_what_the_page_says() -> None:
    example = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", PAGE, re.DOTALL)
    assert example
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example[1], {})
    assert printed.getvalue() == example[2]


def test_the_table_has_every_queue_with_its_value() -> None:
    for queue in QUEUES:
        figure = queue.figures[0]
        row = f"| {queue.name} | `{queue.solver}` | {figure.name} | {figure.exact:.5g} |"
        assert row in PAGE, f"{row} is not in docs/theory.md: run tests/statistical/report.py"
