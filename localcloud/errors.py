"""The one exception that a person at the terminal gets to see as a line."""


class LocalCloudError(Exception):
    """The local cloud can't start or go on; the message says what is wrong, where, and what to do."""
