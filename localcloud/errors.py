"""The exception that is shown to the person at the terminal, as one line."""


class LocalCloudError(Exception):
    """The local cloud can't start or go on. The message says what is wrong, where, and what to do."""
