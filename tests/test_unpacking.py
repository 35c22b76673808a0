"""Compressed content is unpacked within its limit, at any size that it claims."""

import gzip
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.unpacking import Broken, TooLarge, is_packed, unpacked

PACKERS: list[Any] = [gzip.compress, zlib.compress]


@given(st.binary(max_size=5000), st.sampled_from(PACKERS))
def test_compressed_bytes_are_unpacked_unchanged(data: bytes, pack: Any) -> None:
    assert unpacked(pack(data), len(data)) == data


@given(st.binary(max_size=200).filter(lambda data: not is_packed(data)))
def test_anything_else_stays_as_it_is(data: bytes) -> None:
    assert unpacked(data, 0) is data


@given(st.sampled_from(["x ", "x^"]), st.text(st.characters(codec="utf-8"), max_size=2000))
@example("x", " is the unknown here")
@example("x", "^2 + y^2 = 1")
def test_text_that_begins_like_compressed_data_is_left_as_it_is(start: str, text: str) -> None:
    data = start.encode() + text.encode()
    assert not is_packed(data)
    assert unpacked(data, 0) is data


PACKED = gzip.compress(bytes(range(256)) * 40)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], "its checksum does not match", id="wrong checksum"),
        pytest.param(PACKED[:-4] + b"\0\0\0\0", "its checksum does not match", id="wrong length"),
        pytest.param(PACKED[:-9], "it is cut off", id="cut off"),
        pytest.param(PACKED[:12] + b"\xff" * 20 + PACKED[32:], "it is damaged", id="damaged"),
        pytest.param(b"\x1f\x8b\x08 and then text", "it is damaged", id="text behind the signature"),
        pytest.param(PACKED + PACKED[:10] + b"\xff" * 20, "what follows its first part is damaged", id="second part"),
        pytest.param(zlib.compress(PACKED * 9, 0)[:-1], "it is cut off", id="zlib, cut off"),
        pytest.param(
            zlib.compress(PACKED * 9, 0)[:-1] + b"~", "its checksum does not match", id="zlib, wrong checksum"
        ),
    ],
)
def test_unpacking_errors_are_in_plain_words(data: bytes, problem: str) -> None:
    with pytest.raises(Broken, match=problem) as broken:
        unpacked(data, 100_000)
    assert "rror" not in str(broken.value)


@pytest.mark.parametrize("level", range(10))
def test_zlib_is_known_at_every_level(level: int) -> None:
    assert unpacked(zlib.compress(PACKED, level), len(PACKED)) == PACKED


@given(st.binary(max_size=300))
def test_damaged_compression_raises_only_the_declared_errors(tail: bytes) -> None:
    for start in (b"\x1f\x8b\x08", b"\x78\x9c"):
        with suppress(Broken, TooLarge):
            unpacked(start + tail, 1000)


def test_several_gzip_members_are_unpacked_as_one() -> None:
    assert unpacked(gzip.compress(b"one ") + gzip.compress(b"two") + b"\0" * 9, 100) == b"one two"


@pytest.mark.parametrize("cut", [5, 20, -1])
def test_compressed_data_that_ends_early_is_damaged(cut: int) -> None:
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


def test_thousands_of_empty_parts_are_refused_at_once() -> None:
    with pytest.raises(Broken, match="more than 10,000 parts"):
        unpacked(gzip.compress(b"", mtime=0) * 200_000, 50 * 1024 * 1024)


def test_a_file_of_blocks_is_unpacked_whole() -> None:
    """As bgzip writes it."""
    blocks = [bytes([n % 256]) * 65_280 for n in range(200)]
    packed = b"".join(gzip.compress(block, mtime=0) for block in blocks)
    assert unpacked(packed, 50 * 1024 * 1024) == b"".join(blocks)
