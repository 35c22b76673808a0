"""Damaged PDFs: each is drawn or refused, and none hangs, or ends without a word for the person who dropped it.

A few here; thousands with `make test ARGS="tests/test_damaged_documents.py --damaged 5000"`.
"""

import asyncio
import io
import random
import re
from pathlib import Path

import pytest
from PIL import Image
from support.documents import ENCRYPTED_PDF, deep_pdf, drawn, form_pdf, pdf, scanned_pdf
from support.examples import some_of

from pipeline.documents.choice import PageChoice
from pipeline.documents.pdf import Rendering, render_pdf
from pipeline.errors import ErrorCode, PermanentFailure

AT_ONCE = 4
IN_A_ROUND = 5
PATIENCE_SECONDS = 100
SAMPLE = Path(__file__).parents[1] / "samples" / "agreement.pdf"
_OBJECT = re.compile(rb"(?<=obj\n).*?(?=\nendobj)", re.DOTALL)
_NUMBER = re.compile(rb"[0-9]+")
_BODIES = 2
"""Objects that are swapped."""


def _fax() -> bytes:
    target = io.BytesIO()
    pages = [drawn(text).convert("1") for text in ("One", "Two")]
    pages[0].save(target, "PDF", save_all=True, append_images=pages[1:])
    return target.getvalue()


def _photo() -> bytes:
    target = io.BytesIO()
    Image.linear_gradient("L").save(target, "PDF")
    return target.getvalue()


WHOLE = [
    pdf(["One", "Two"]),
    form_pdf(),
    ENCRYPTED_PDF,
    deep_pdf(20),
    _fax(),
    _photo(),
    scanned_pdf(2, dpi=30),
    scanned_pdf(1, dpi=20, filter_="FlateDecode"),
    SAMPLE.read_bytes(),
]


def cut(chance: random.Random, data: bytearray) -> None:
    del data[chance.randrange(len(data)) :]


def flip_bits(chance: random.Random, data: bytearray) -> None:
    for _ in range(chance.randrange(1, 40)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def lose(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.randrange(200)]


def repeat(chance: random.Random, data: bytearray) -> None:
    at, to = chance.randrange(len(data)), chance.randrange(len(data))
    data[to:to] = data[at : at + chance.randrange(300)]


def swap_objects(chance: random.Random, data: bytearray) -> None:
    """A page where its parent should be, a stream for a dictionary; references may become circles."""
    bodies = [found.span() for found in _OBJECT.finditer(data)]
    if len(bodies) < _BODIES:
        return
    (a, b), (c, d) = sorted(chance.sample(bodies, _BODIES))
    data[a:d] = data[c:d] + data[b:c] + data[a:b]


def change_number(chance: random.Random, data: bytearray) -> None:
    """A size, a count, an offset or a reference."""
    begin, end = chance.choice([found.span() for found in _NUMBER.finditer(data)])
    data[begin:end] = chance.choice([b"0", b"-1", b"1", b"65536", b"2147483648", b"99999999999999999999", b"3 0 R"])


DAMAGES = (cut, flip_bits, lose, repeat, swap_objects, change_number)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "round_" in metafunc.fixturenames:
        rounds = -(-metafunc.config.getoption("--damaged") // IN_A_ROUND)
        metafunc.parametrize("round_", some_of(range(rounds)))


async def outcome(data: bytes) -> Rendering | PermanentFailure:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await render_pdf(data, PageChoice.parse("all"), 10)
    except PermanentFailure as failure:
        return failure


async def test_each_is_drawn_or_refused(round_: int) -> None:
    chance = random.Random(round_)  # noqa: S311 - damage, and the same in each run
    files = []
    for _ in range(IN_A_ROUND):
        data = bytearray(chance.choice(WHOLE))
        for damage in chance.choices(DAMAGES, k=chance.choice([1, 1, 2, 3])):
            if data:
                damage(chance, data)
        files.append(bytes(data))
    for begin in range(0, IN_A_ROUND, AT_ONCE):
        for end in await asyncio.gather(*map(outcome, files[begin : begin + AT_ONCE])):
            if isinstance(end, PermanentFailure):
                assert end.code in {
                    ErrorCode.CORRUPT_IMAGE, ErrorCode.UNSUPPORTED_IMAGE, ErrorCode.IMAGE_TOO_LARGE,
                    ErrorCode.TOO_MANY_PAGES,
                }  # fmt: skip
                assert "upload that" in end.message or "Name" in end.message
            else:
                assert end.pages.sent
