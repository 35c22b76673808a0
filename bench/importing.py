"""A contender: imports modules in an interpreter that has imported next to nothing, not even what benchmarks use.

python -m bench.importing '{"modules": ["openai"], "after": ["azure.functions"]}'
"""

import importlib
import sys
import time


def main() -> None:
    """Prints `seconds` that `modules` took, `bytes` that they added, and all `loaded` in the end."""
    import json  # noqa: PLC0415 - two milliseconds, that everybody needs

    task = json.loads(sys.argv[1])
    for name in task["after"]:
        importlib.import_module(name)
    began = time.perf_counter()
    for name in task["modules"]:
        importlib.import_module(name)
    seconds = time.perf_counter() - began
    loaded = sorted(sys.modules)

    from bench.measure import rss_bytes  # noqa: PLC0415 - what it imports is not to be counted

    held = rss_bytes()
    sys.stdout.write(json.dumps({"seconds": seconds, "bytes": held, "loaded": loaded}) + "\n")


if __name__ == "__main__":
    main()
