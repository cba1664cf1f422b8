"""What numbers of a config may be: far beyond what any run needs, a larger one is a slip."""

from __future__ import annotations

MOST_SIDE_PX = 8192
MOST_STEPS = 10**9
MOST_SEED = 2**32 - 1
MOST_WEIGHT = 1e9


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Refuse a number outside a range; raises ValueError."""
    if not least <= value <= most:
        raise ValueError(f"{name} must be at least {least} and at most {most}, got {value}")


def check_sides(name: str, hw: tuple[int, int]) -> None:
    """Refuse a size that no network takes; raises ValueError."""
    if any(not 32 <= side <= MOST_SIDE_PX or side % 32 for side in hw):
        raise ValueError(f"{name} must be multiples of 32, at most {MOST_SIDE_PX}, got {hw}")
