"""Work on a stream with threads, some items ahead, results in order.

The number of threads changes speed and nothing else: order, results and errors are those of `map`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
