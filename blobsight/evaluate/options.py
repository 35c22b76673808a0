"""Kinds of option values: shares, and how far numbers may be off."""

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any, override

import click

from blobsight.evaluate.comparing import DEFAULT, Tolerance


class Share(click.ParamType[float]):
    """A share from 0 to 1, also written as a percentage."""

    name = "share"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        number, percent = _number(value)
        share = number / 100 if percent else number
        if not 0 <= share <= 1:
            self.fail(f"{value!r} should be from 0 to 1, or from 0% to 100%.", param, ctx)
        return float(share)


class Tolerable(click.ParamType[Tolerance]):
    """How far numbers may be off: absolute, or a percentage of the expected one."""

    name = "tolerance"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Tolerance:
        if isinstance(value, Tolerance):
            return value
        number, percent = _number(value)
        if number < 0:
            self.fail(f"{value!r} should be a number such as 0.01, or a percentage such as 1%.", param, ctx)
        return replace(DEFAULT, relative=number / 100) if percent else replace(DEFAULT, absolute=number)


def _number(text: str) -> tuple[Decimal, bool]:
    """A number that is not negative, and whether it is a percentage; -1 for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", text.strip(), re.ASCII)
    return (Decimal(found[1]), found[2] == "%") if found else (Decimal(-1), False)
