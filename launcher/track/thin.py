"""A curve of any length in constant memory: few points, between which no high and no low is lost."""

from __future__ import annotations

MOST_BUCKETS = 500
"""Each keeps its lowest and its highest point: 1,000 points at most."""

Point = tuple[int, float]


class Thin:
    """Points of a curve, given in the order of their steps; one that goes back replaces what came after it."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most, self._width = most, 1
        self._buckets: dict[int, tuple[Point, Point]] = {}
        self._last = -1

    def add(self, step: int, value: float) -> None:
        """One more point."""
        if step <= self._last:
            self._go_back(step)
        self._last = step
        point = (step, value)
        low, high = self._buckets.get(step // self._width, (point, point))
        self._buckets[step // self._width] = (min(low, point, key=_height), max(high, point, key=_height))
        if len(self._buckets) > self._most:
            self._halve()

    def points(self) -> list[Point]:
        """What is left, by step."""
        return sorted({point for pair in self._buckets.values() for point in pair})

    def _go_back(self, step: int) -> None:
        """Forget the points from `step` on; of a bucket that it falls into, the one that came before."""
        for number in list(self._buckets):
            before = [point for point in self._buckets[number] if point[0] < step]
            if before:
                self._buckets[number] = (min(before, key=_height), max(before, key=_height))
            else:
                del self._buckets[number]

    def _halve(self) -> None:
        self._width *= 2
        merged: dict[int, tuple[Point, Point]] = {}
        for low, high in self._buckets.values():
            number = low[0] // self._width
            mine = (*merged.get(number, ()), low, high)
            merged[number] = (min(mine, key=_height), max(mine, key=_height))
        self._buckets = merged


def _height(point: Point) -> float:
    return point[1]
