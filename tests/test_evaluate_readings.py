"""Numbers and dates as people write them, read in the way that people do, and never guessed."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from blobsight.evaluate.readings import amount_of, boolean_of, json_number, moments_of, plain_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234,50 €", "1234.50"),
        ("€1,234.50", "1234.50"),
        ("1 234,50", "1234.50"),
        ("1\N{NARROW NO-BREAK SPACE}234,50 EUR", "1234.50"),
        ("CHF 1'234.50", "1234.50"),
        ("CHF 12.–", "12"),  # noqa: RUF001 - as Swiss prices are printed
        ("₹1,50,087.99", "150087.99"),
        ("1,234,567", "1234567"),
        ("€1,234", "1234"),
        ("1.234 €", "1234"),
        ("0,123", "0.123"),
        ("12,5 kg", "12.5"),
        ("5 %", "5"),
        ("１２.５０", "12.50"),  # noqa: RUF001 - full-width digits
        ("-12.50 EUR", "-12.50"),
        ("−12,50", "-12.50"),  # noqa: RUF001 - the minus of typographers
        ("12,50-", "-12.50"),
        ("(12.50)", "-12.50"),
        ("$ -12.50", "-12.50"),
        ("-$12.50", "-12.50"),
    ],
)
def test_an_amount_is_read_as_it_is_meant(text: str, value: str) -> None:
    amount = amount_of(text)
    assert amount is not None
    assert amount.values == {Decimal(value)}


@pytest.mark.parametrize("text", ["1,234", "1.234", "12.345 kg"])
def test_thousands_or_a_fraction_is_not_guessed(text: str) -> None:
    amount = amount_of(text)
    assert amount is not None
    assert len(amount.values) == 2


@pytest.mark.parametrize(
    "text", ["", "abc", "1.23.4", "12 pieces of 3", "2026-05-03", "12 50", "3-4", "1" * 61, "(12", "call 12 now"]
)
def test_what_is_no_amount_is_none(text: str) -> None:
    assert amount_of(text) is None


@pytest.mark.parametrize(
    ("one", "other", "contradicts"),
    [
        ("5 €", "EUR 5", False),
        ("5 €", "5", False),
        ("5 €", "USD 5", True),
        ("$5", "CAD 5", False),
        ("$5", "5 €", True),
        ("5 kg", "5 EUR", False),
    ],
)
def test_currencies_contradict_where_both_are_named(one: str, other: str, *, contradicts: bool) -> None:
    first, second = amount_of(one), amount_of(other)
    assert first is not None
    assert second is not None
    assert first.contradicts(second) is second.contradicts(first) is contradicts


@given(st.decimals(-(10**9), 10**9, places=2))
def test_an_amount_comes_back_from_every_way_of_writing_it(value: Decimal) -> None:
    english = f"{value:,.2f}"
    german = english.translate(str.maketrans(",.", ".,"))
    for text in (english, german, f"{german} €", f"USD {english}", german.replace(".", " ")):
        amount = amount_of(text)
        assert amount is not None
        assert amount.values == {value}, text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_an_export_writes_is_that_number(value: float) -> None:
    assert json_number(repr(value)) == Decimal(repr(value))


@pytest.mark.parametrize("text", ["0012", "NaN", "Infinity", "1,5", "٣", "1e9999", ""])
def test_other_texts_are_no_json_number(text: str) -> None:
    assert json_number(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-03", "2026/5/3", "2026.05.03", "3 May 2026", "May 3rd, 2026", "Sunday, 3 May 2026", "3. Mai 2026",
        "3 mai 2026", "3 de mayo de 2026", "3 maggio 2026", "3 de maio de 2026", "3 mei 2026", "2026-05-03T00:00",
    ],
)  # fmt: skip
def test_a_date_is_read_in_normal_form(text: str) -> None:
    (moment,) = moments_of(text)
    assert str(moment.day) == "2026-05-03"


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("13/05/2026", {"2026-05-13"}),
        ("05/13/2026", {"2026-05-13"}),
        ("03/05/2026", {"2026-05-03", "2026-03-05"}),
        ("03.05.2026", {"2026-05-03", "2026-03-05"}),
        ("05.05.2026", {"2026-05-05"}),
        ("25.12.99", {"1999-12-25"}),
    ],
)
def test_day_and_month_in_figures_are_not_guessed(text: str, days: set[str]) -> None:
    assert {str(moment.day) for moment in moments_of(text)} == days


@pytest.mark.parametrize(
    "text",
    ["12.50", "1.2.3", "May 2026", "2026-05", "2026-13-01", "30 February 2026", "Model 2026 edition", "Total 12",
     "192.168.1.1", "9" * 30 + " May 2026", "3 May 2026 " + "x" * 60],
)  # fmt: skip
def test_what_is_not_a_whole_date_has_no_day(text: str) -> None:
    assert not any(moment.day for moment in moments_of(text))


def test_a_time_with_its_zone_is_an_instant() -> None:
    assert moments_of("2026-05-03T10:30:00+02:00") == moments_of("2026-05-03 08:30Z")
    assert moments_of("10:30 pm") == moments_of("22:30") == moments_of("22.30 Uhr")


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    moments_of(text)
    amount_of(text)
    boolean_of(text)
    json_number(text)
    assert plain_text(plain_text(text)) == plain_text(text)


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("Falsch", False), ("ja", True), ("", None), ("2", None)])
def test_true_and_false_in_several_languages(text: str, *, value: bool | None) -> None:
    assert boolean_of(text) is value


@given(
    st.text("0123456789-+.:,/ TZUEMAPruh٣५", max_size=20),
    st.sampled_from(["", "2026-05-03 ", "12:30 Uhr", "3 May 2026 "]),
)
@examples(300)
@pytest.mark.filterwarnings("error")
def test_any_text_is_a_moment_or_none(text: str, start: str) -> None:
    moments_of(f"{start}{text}")


@pytest.mark.filterwarnings("error")
def test_a_time_zone_that_is_none_is_no_date_and_no_warning() -> None:
    assert moments_of("12:30 Uhr-9475") == frozenset()
    assert moments_of("2026-05-03 10:30 EST") == moments_of("2026-05-03 10:30")
    assert moments_of("2026-05-03T10:30+02:00") == moments_of("2026-05-03T08:30Z")
