"""Instructions survive every way in which tools squeeze them into ASCII."""

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from email.header import Header
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.some_files import Container

from pipeline.errors import PermanentFailure
from pipeline.instructions import InstructionSources
from pipeline.instructions.metadata_text import UndecodableText, decode_base64, decode_text

RESERVED = "%(2[346BCF]|3[ABDF]|40)"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
ascii_texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))


@given(texts.filter(lambda text: not text.isascii()))
def test_percent_encoded_text_is_decoded(text: str) -> None:
    assert decode_text(quote(text)) == text


@given(ascii_texts.filter(lambda text: "=?" not in text and "%" not in text))
def test_plain_ascii_stays_as_written(text: str) -> None:
    assert decode_text(text) == text


@pytest.mark.parametrize(
    "text", ["25%20", "100% sure", "50%25", "%41%42", "%", "%%", "is it 5%?", "%ff", "a%C3", "%F0%9F %41"]
)
def test_percent_signs_that_are_not_encoding_stay_as_written(text: str) -> None:
    """Decoded only when the whole value is valid UTF-8 with a non-ASCII character or several words in it."""
    assert decode_text(text) == text


words = st.text(st.sampled_from("abcXYZäß漢?!,.:;/&=+#'()*~_-"), min_size=1, max_size=12)
sentences = st.lists(st.text("abc", min_size=1) | words, min_size=2).map(" ".join)
ENCODERS = [
    lambda text: quote(text, safe=""),  # quote, .NET's EscapeDataString
    lambda text: quote(text, safe="-_.!~*'()"),  # encodeURIComponent
    quote_plus,  # forms, Java's URLEncoder, URLSearchParams
]


@given(sentences, st.sampled_from(ENCODERS))
def test_sentences_are_decoded_whatever_encoded_them(text: str, encode: Callable[[str], str]) -> None:
    """Unless nothing shows: a form's `What+is+it` holds no escape at all."""
    encoded = encode(text)
    assume(text[0].isalpha() and ("%20" in encoded or re.search(r"\w\+\w.*" + RESERVED, encoded)))
    assert decode_text(encoded) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("What%20is%20the%20total%3F", "What is the total?"),
        ("What%20does%20%22C%2B%2B%22%20mean%3F", 'What does "C++" mean?'),
        ("What+is+the+total%3F", "What is the total?"),
        ("Gr%C3%B6%C3%9Fe+der+Katze%3F", "Größe der Katze?"),
        ("Line%20one%0AAnd%20two", "Line one\nAnd two"),
        ("a+b%20c", "a+b c"),
    ],
)
def test_encoded_english_is_decoded(value: str, text: str) -> None:
    assert decode_text(value) == text


@pytest.mark.parametrize(
    "text",
    ["Find%20", "%20", "100%20200", "What does %20 mean?", 'Is"%20"a%20space', "C%2B%2B", "What+is+it", "x%00%20y"],
)
def test_text_that_may_be_meant_as_written_stays_so(text: str) -> None:
    assert decode_text(text) == text


@given(texts.filter(lambda text: text.strip() == text))
def test_rfc2047_words_are_decoded(text: str) -> None:
    assert decode_text(Header(text, "utf-8").encode(linesep="").replace("\n", "")) == text


@given(texts)
def test_base64_is_decoded_in_either_alphabet_with_or_without_padding(text: str) -> None:
    data = text.encode()
    for encoded in (base64.b64encode(data), base64.urlsafe_b64encode(data)):
        assert decode_base64(encoded.decode()) == decode_base64(encoded.decode().rstrip("=")) == text


@given(texts.filter(lambda text: not text.isascii() and "%" not in text and "=?" not in text))
def test_raw_utf8_bytes_are_read(text: str) -> None:
    """HTTP libraries hand such bytes through as surrogate escapes."""
    assert decode_text(text.encode().decode("ascii", "surrogateescape")) == text


@given(st.text())
def test_any_value_is_decoded_or_refused_by_name(value: str) -> None:
    """No metadata makes the decoders raise anything else."""
    for decode in (decode_text, decode_base64):
        with suppress(UndecodableText):
            decode(value)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"instructions_b64": "R3LDtsOfZQ=x"}, "not base64"),
        ({"instructions_b64": base64.b64encode(b"Gr\xf6\xdfe").decode()}, "byte 0xf6 at position 2"),
        ({"instructions": "Gr\udcf6\udcdfe"}, "byte 0xf6 at position 2"),
        ({"instructions": "=?klingon?B?R3I=?="}, "RFC 2047"),
    ],
)
async def test_undecodable_metadata_is_invalid_and_the_message_says_where(
    metadata: dict[str, str], complaint: str
) -> None:
    with pytest.raises(PermanentFailure, match=complaint) as caught:
        await InstructionSources(Container(), "never a silent default").find("x.jpg", metadata)
    assert caught.value.code == "invalid_instructions"
    assert next(iter(metadata)) in caught.value.message


async def test_base64_goes_before_plain_metadata_and_names_have_no_case() -> None:
    metadata = {"INSTRUCTIONS": " plain ", "instructions_B64": base64.b64encode(b"from base64").decode()}
    sources = InstructionSources(Container(), None)
    found = [await sources.find("x.jpg", metadata), await sources.find("x.jpg", {"Instructions": " plain "})]
    assert [(f.text, f.origin_name) for f in found] == [("from base64", "instructions_b64"), ("plain", "instructions")]
