"""How many tokens a text is, about."""

import math

_LATIN_CHARACTERS = 4
"""To a token, in English. https://help.openai.com/en/articles/4936856-what-are-tokens-and-how-to-count-them"""

MESSAGE_FORMAT = 8
"""What a request costs beside its texts and its image: measured as the smallest that was billed.
https://community.openai.com/t/gpt-4-1-vision-price-calculations-incorrect-billing-on-full-model/1230130"""


def text_tokens(text: str) -> int:
    """A token for every four characters of ASCII and for each other one, rounded up: rather too many than too few.

    The service's own tokenizer would have to be downloaded, and these are few beside an image's.
    """
    ascii_count = sum(character.isascii() for character in text)
    return math.ceil(ascii_count / _LATIN_CHARACTERS) + len(text) - ascii_count
