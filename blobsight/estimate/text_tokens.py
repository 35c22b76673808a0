"""The tokens of a text, roughly."""

import math

_LATIN_CHARACTERS = 4
"""Characters a token, in English.
https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them"""

MESSAGE_FORMAT = 8
"""Tokens of a request in addition to its texts and its image: the smallest number that was billed.
https://community.openai.com/t/gpt-4-1-vision-price-calculations-incorrect-billing-on-full-model/1230130"""


def text_tokens(text: str) -> int:
    """Count a token for every four ASCII characters and for each other character, rounded up: rather too many.

    The service's tokenizer would have to be downloaded, and a text has few tokens compared with an image.
    """
    ascii_count = sum(character.isascii() for character in text)
    return math.ceil(ascii_count / _LATIN_CHARACTERS) + len(text) - ascii_count
