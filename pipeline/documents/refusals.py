"""Why the pages that were chosen of a document are not looked at."""

from pipeline.errors import ErrorCode, PermanentFailure


def no_such_pages(kind: str, count: int, cause: str) -> PermanentFailure:
    """The failure of a document that has not the pages which are chosen; `cause` says which, and which there are."""
    return PermanentFailure(
        ErrorCode.INVALID_INSTRUCTIONS,
        f"In this {kind}, {cause}. Correct the option pages, or leave it out.",
        {"option": "pages", "pages": count},
    )


def too_many_pages(count: int, chosen: int, noun: str) -> PermanentFailure:
    """The failure of a document of which more pages are chosen than are sent in one question."""
    return PermanentFailure(
        ErrorCode.TOO_MANY_PAGES,
        f"The file has {count:,} {noun}s, and {chosen:,} of them were to be looked at: more than the app's setting"
        " MAX_PAGES allows. Name some with the option pages, for example pages: 1-3,7; or split the file.",
        {"pages": count, "chosen": chosen},
    )
