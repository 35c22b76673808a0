"""Text that other people wrote, such as a blob's name, made fit for messages and log lines. Pure."""


def one_line(text: str) -> str:
    """`text` on one line and printable: no line break forges a log line, no escape sequence reaches a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "�" for c in text)


def short(text: str, limit: int = 120) -> str:
    """`text` on one line, printable, and of at most `limit` characters."""
    return one_line(text if len(text) <= limit else f"{text[: limit - 1]}…")


def blob_label(container: str, name: str) -> str:
    """How log lines name a blob: whole, since people search for it. A container's name has at most 63 characters."""
    return f"{short(container, 63)}/{one_line(name)}"
