"""How many examples a property is tried with."""

from collections.abc import Sequence

from hypothesis import settings

FEWER = "fewer"
"""The profile of `make quick`: a fifth of the examples, chosen anew in each run."""
settings.register_profile(FEWER, max_examples=settings().max_examples // 5)


def examples(count: int) -> settings:
    """For a test whose property needs `count` examples instead of the usual 100, and as much time as they take."""
    return settings(max_examples=max(1, count * settings().max_examples // 100), deadline=None)


def some_of[T](values: Sequence[T]) -> Sequence[T]:
    """All of the values that a test goes through; in `make quick` every fifth, from the first on."""
    return values[:: 100 // settings().max_examples]
