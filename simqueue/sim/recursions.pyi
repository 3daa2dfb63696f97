from simqueue.cost.prices import Prices
from simqueue.record import Column

def bulk(
    arrival: Column,
    prompt: Column,
    output: Column,
    finished: Column,
    given: Prices,
    least: int,
    most: int,
    wait: int,
    with_batch: bool,
) -> Column | None: ...
def seated(
    arrival: Column, prompt: Column, output: Column, finished: Column, given: Prices, seats: int, budget: int
) -> Column | tuple[Column, Column, Column, Column] | None: ...
def durations(
    steps: Column, first: Column, rows: Column, context: Column, longest: Column, given: Prices, count: int
) -> Column | None: ...
