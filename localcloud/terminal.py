"""Talk on stderr, results on stdout; rich leaves colours and animation out of pipes and obeys NO_COLOR."""

from rich.console import Console

talk = Console(stderr=True, highlight=False)
out = Console(highlight=False)
