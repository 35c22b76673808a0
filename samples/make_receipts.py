"""Draw receipts whose truth is known, to try questions and to measure answers with.

    python samples/make_receipts.py FOLDER --number 300 --seed 1

Writes receipt-001.jpg and, beside it, receipt-001.jpg.expected.json: what is printed, as receipt.schema.json has it.
The same Pillow version draws the same bytes from the same seed. Names of shops are made up.
"""
# ruff: noqa: INP001 - a folder of pictures with the scripts that draw them, no package

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageOps

PHOTO = (900, 1200)
"""Pixels of a picture."""
WIDTH = 520
"""Pixels that the receipt in it is wide."""
PRINT = (12, 18)
"""Least and greatest size of its letters in pixels. Within the 512 pixels of `detail: low`, not all can be read."""
INK = 44
PAPER = 244

SHOPS = (
    "Lumen Coffee", "Fjordbrygg", "Bakery Nordlys", "Green Anchor Market", "Harbour Hardware", "Petit Four & Co.",
    "Kiosk am Tor", "Alder & Finch Books", "Solbakken Farm Shop", "Tram 9 Diner", "Blue Door Pharmacy",
    "Old Mill Stores", "Casa Rosada", "Lindenhof Apotheke", "Mercado Azul", "North Pier Fish", "The Corner Pantry",
    "Velo Werkstatt", "Quick Stop 24", "Papeterie Lune",
)  # fmt: skip
GOODS = (
    "Flat white", "Cinnamon roll", "Oat porridge", "Orange juice", "Rye bread", "Goat cheese", "Apples 1 kg",
    "Batteries AA", "Light bulb", "Notebook A5", "Pencil HB", "Washing powder", "Toothpaste", "Olive oil",
    "Basmati rice", "Tomato soup", "Salmon fillet", "Bus ticket", "Postcard", "Wood screws", "Plasters", "Green tea",
    "Dark chocolate", "Dish cloth", "Candle", "Inner tube", "Sparkling water", "Honey jar", "Wrapping paper",
    "Parking 2 h",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Country:
    """How receipts are printed there: dates and amounts."""

    currency: str
    dates: tuple[str, ...]
    money: Callable[[int], str]
    """Text of an amount in hundredths."""
    mark: str
    """How the total's row names the currency; empty where the amounts do."""

    def price(self, cents: int) -> str:
        return f"{'-' * (cents < 0)}{self.money(abs(cents))}"


def _grouped(cents: int, thousands: str, point: str) -> str:
    return f"{cents / 100:,.2f}".replace(",", " ").replace(".", point).replace(" ", thousands)


COUNTRIES = (
    Country("EUR", ("%d.%m.%Y", "%d. %B %Y"), lambda cents: _grouped(cents, ".", ","), "EUR"),
    Country("EUR", ("%d/%m/%Y", "%d %b %Y"), lambda cents: f"{_grouped(cents, '.', ',')} EUR", ""),
    Country("GBP", ("%d %B %Y", "%d/%m/%y"), lambda cents: _grouped(cents, ",", "."), "GBP"),
    Country("USD", ("%b %d, %Y", "%B %d, %Y"), lambda cents: f"${_grouped(cents, ',', '.')}", ""),
    Country("NOK", ("%d.%m.%Y", "%Y-%m-%d"), lambda cents: _grouped(cents, "", ","), "NOK"),
    Country("CHF", ("%d.%m.%Y", "%d-%b-%Y"), lambda cents: _grouped(cents, "", "."), "CHF"),
    Country("SEK", ("%Y-%m-%d",), lambda cents: _grouped(cents, "", "."), "SEK"),
)


@dataclass(frozen=True, slots=True)
class Line:
    description: str
    quantity: int | None
    cents: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receipt says; `day` and `heading` are None where none is printed."""

    vendor: str
    country: Country
    day: date | None
    day_format: str
    time: str
    lines: tuple[Line, ...]
    discount: Line | None
    number: int
    heading: str | None

    @property
    def goods(self) -> tuple[Line, ...]:
        return (*self.lines, *((self.discount,) if self.discount else ()))

    @property
    def total(self) -> int:
        return sum(line.cents for line in self.goods)

    def truth(self) -> dict[str, Any]:
        """What is printed, as receipt.schema.json has it."""
        return {
            "vendor": self.vendor,
            **({"date": self.day.isoformat()} if self.day else {}),
            "currency": self.country.currency,
            "lines": [
                {
                    "description": line.description,
                    **({"quantity": line.quantity} if line.quantity is not None else {}),
                    "amount": line.cents / 100,
                }
                for line in self.goods
            ],
            "total": self.total / 100,
        }


def invent(chance: random.Random) -> Receipt:
    """A receipt as a shop might print it."""
    country = chance.choice(COUNTRIES)
    dear = 10 if country.currency in ("NOK", "SEK") else 1
    counted = chance.random() < 0.7
    lines = []
    for description in chance.sample(GOODS, chance.randint(1, 8)):
        quantity = chance.choice((1, 1, 1, 2, 3, 6))
        cents = chance.randrange(90, 4000, 5) * dear * quantity
        lines.append(Line(description, quantity if counted else None, cents))
    whole = sum(line.cents for line in lines)
    discount = Line("Discount", None, -(whole // chance.choice((10, 20)))) if chance.random() < 0.2 else None
    day = date(2025, 1, 1) + timedelta(days=chance.randrange(700))
    return Receipt(
        vendor=chance.choice(SHOPS),
        country=country,
        day=day if chance.random() > 0.06 else None,
        day_format=chance.choice(country.dates),
        time=f"{chance.randrange(7, 22):02}:{chance.randrange(60):02}",
        lines=tuple(lines),
        discount=discount,
        number=chance.randrange(1000, 999_999),
        heading="SALES RECEIPT" if chance.random() < 0.05 else None,
    )


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise SystemExit("This Pillow was built without FreeType: install it from a wheel (pip install pillow).")
    return loaded


def draw(receipt: Receipt, chance: random.Random, print_size: int) -> Image.Image:
    """The receipt, photographed a little: turned, on a table, with grain. `print_size` is that of its letters."""
    paper = Image.new("L", (WIDTH, PHOTO[1]), PAPER)
    pen = ImageDraw.Draw(paper)
    y, step, price = 36, round(print_size * 1.7), receipt.country.price

    def middle(text: str, size: int) -> None:
        nonlocal y
        pen.text((WIDTH // 2, y), text, INK, font(size), anchor="ma")
        y += round(size * 1.6)

    def row(left: str, right: str) -> None:
        nonlocal y
        pen.text((36, y), left, INK, font(print_size), anchor="la")
        pen.text((WIDTH - 36, y), right, INK, font(print_size), anchor="ra")
        y += step

    def rule() -> None:
        nonlocal y
        pen.line((36, y + 4, WIDTH - 36, y + 4), 120, 2)
        y += 20

    if receipt.heading:
        middle(receipt.heading, print_size)
    middle(receipt.vendor, round(print_size * 1.6))
    middle(f"Receipt {receipt.number}", round(print_size * 0.8))
    row(f"Date {receipt.day.strftime(receipt.day_format)}" if receipt.day else "", receipt.time)
    rule()
    for line in receipt.goods:
        row(f"{line.quantity} {line.description}" if line.quantity else line.description, price(line.cents))
    rule()
    row(f"TOTAL {receipt.country.mark}".strip(), price(receipt.total))
    row("Paid by card", price(receipt.total))
    middle("Thank you", print_size)
    return photographed(paper.crop((0, 0, WIDTH, y + step)), chance)


def photographed(paper: Image.Image, chance: random.Random) -> Image.Image:
    """A flat picture in grey, as a phone would take it: askew on a table, not lit evenly, with some noise."""
    table, angle = chance.randrange(70, 150), chance.uniform(-2.5, 2.5)
    scene = Image.new("L", PHOTO, table)
    turned = paper.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    mask = Image.new("L", paper.size, 255).rotate(angle, Image.Resampling.NEAREST, expand=True)
    scene.paste(turned, ((PHOTO[0] - turned.width) // 2, (PHOTO[1] - turned.height) // 2), mask)
    light = Image.linear_gradient("L").rotate(chance.choice((0, 90, 180, 270))).point(lambda value: 200 + value // 5)
    scene = ImageChops.multiply(scene, light.resize(PHOTO))
    noise = Image.frombytes("L", (256, 256), chance.randbytes(256 * 256)).resize(PHOTO, Image.Resampling.BILINEAR)
    scene = Image.blend(scene, noise, 0.05)
    return ImageOps.colorize(scene, (20, 14, 10), (255, 252, 244))


def encoded(picture: Image.Image) -> bytes:
    made = BytesIO()
    picture.save(made, "JPEG", quality=60)
    return made.getvalue()


def make(folder: Path, number: int, seed: int, print_size: tuple[int, int] = PRINT) -> Mapping[str, Receipt]:
    """Write `number` receipts into `folder`, which is made if need be; return them by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for index in range(1, number + 1):
        chance = random.Random(f"{seed}/{index}")  # noqa: S311 - decoration, no secret
        receipt = invent(chance)
        name = f"receipt-{index:0{max(3, len(str(number)))}}.jpg"
        (folder / name).write_bytes(encoded(draw(receipt, chance, chance.randint(*print_size))))
        expected = json.dumps(receipt.truth(), ensure_ascii=False, indent=2) + "\n"
        (folder / f"{name}.expected.json").write_text(expected, encoding="utf-8")
        made[name] = receipt
    return made


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="gets receipt-001.jpg, receipt-001.jpg.expected.json, …")
    parser.add_argument("--number", type=int, default=300, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other receipts (default: %(default)s)")
    options = parser.parse_args(arguments)
    made = make(options.folder, options.number, options.seed)
    sys.stdout.write(f"{len(made)} receipts, with what is printed on them, in {options.folder}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
