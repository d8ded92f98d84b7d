"""Work on a stream with threads, some items ahead, results in order.

The number of threads changes speed and nothing else: order, results and errors are those of `map`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_threads: int, num_ahead: int
) -> Iterator[Result]:
    """`function` of each of `items`, in order, computed by `num_threads` threads up to `num_ahead` items ahead.

    Memory is bounded by `num_ahead`, however long `items` is. With `num_threads=0` the caller's thread does the work
    when a result is asked for, which is easier to debug.

    Example:
        >>> list(map_ahead(str.upper, "abc", num_threads=2, num_ahead=4))
        ['A', 'B', 'C']
    """
    if num_threads == 0:
        yield from map(function, items)
        return
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="asr-ahead")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def read_ahead(items: Iterable[Item], num_ahead: int) -> Iterator[Item]:
    """`items`, in order, drawn by a thread of their own up to `num_ahead` ahead, so that nobody waits for slow ones.

    Example:
        >>> list(read_ahead(range(4), num_ahead=2))
        [0, 1, 2, 3]
    """
    source = iter(items)
    pool = ThreadPoolExecutor(1, thread_name_prefix="asr-read")

    def draw() -> list[Item]:
        return list(islice(source, 1))

    try:
        pending = deque(pool.submit(draw) for _ in range(1 + num_ahead))
        while drawn := pending.popleft().result():
            pending.append(pool.submit(draw))
            yield drawn[0]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
