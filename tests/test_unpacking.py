"""Compressed content is unpacked within its limit, whatever it claims."""

import gzip
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

PACKERS: list[Any] = [gzip.compress, zlib.compress]


@given(st.binary(max_size=5000), st.sampled_from(PACKERS))
def test_what_was_packed_comes_out(data: bytes, pack: Any) -> None:
    assert unpacked(pack(data), len(data)) == data


@given(st.binary(max_size=200).filter(lambda data: not is_packed(data)))
def test_anything_else_stays_as_it_is(data: bytes) -> None:
    assert unpacked(data, 0) is data


@given(st.binary(max_size=300))
def test_damage_has_one_name(tail: bytes) -> None:
    for start in (b"\x1f\x8b\x08", b"\x78\x9c"):
        with suppress(Broken, TooLarge):
            unpacked(start + tail, 1000)


def test_members_follow_each_other() -> None:
    assert unpacked(gzip.compress(b"one ") + gzip.compress(b"two") + b"\0" * 9, 100) == b"one two"


@pytest.mark.parametrize("cut", [5, 20, -1])
def test_what_ends_early_is_broken(cut: int) -> None:
    with pytest.raises(Broken):
        unpacked(gzip.compress(bytes(range(256)))[:cut], 1000)


def test_a_bomb_takes_no_more_than_the_limit() -> None:
    bomb = gzip.compress(gzip.compress(bytes(200_000_000), 9), 9)
    once = unpacked(bomb, 1_000_000)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        unpacked(once, 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()
