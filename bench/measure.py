"""Tools of all benchmarks: rows of the table, repeats that take turns, contenders in their own processes.

A benchmark is a module with

    def run(repeats: int, quick: bool, say: Callable[[str], None]) -> list[Row]

A single figure says more about the machine than about the code. So each row is a pair: ours and a baseline, measured in
turns in the same run, so that other load on the machine affects both.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent

CONTENDER_SECONDS = 600
"""A contender that takes longer hangs."""

type Say = Callable[[str], None]
"""Called with what is being done now."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ours` and `baseline` are medians over the repeats, both in `unit`."""

    benchmark: str
    """Name of the benchmark, e.g. `prepare`."""
    case: str
    """The measured case, e.g. `JPEG, 48 megapixels`."""
    unit: str
    """Of both figures, e.g. `ms CPU`."""
    ours: float
    baseline: float
    spread: float
    """Half of the range of the repeats' ratios, as a part of their median: 0.1 is +-10 %. 0.0 if there was one."""
    baseline_name: str
    """Name of the baseline, e.g. `plain Pillow`."""
    target: str | None
    """The target of the ratio: `≤ 1.4` or `≥ 0.6`; None: for information."""
    met: bool | None
    """Whether the target is met; None without a target."""
    higher_is_better: bool

    @property
    def ratio(self) -> float:
        """Ours in baselines."""
        return self.ours / self.baseline

    @property
    def limit(self) -> float | None:
        """The number in `target`."""
        return float(self.target.partition(" ")[2]) if self.target else None


def row(  # noqa: PLR0913 - the fields of a row
    benchmark: str,
    case: str,
    unit: str,
    ours: list[float],
    baseline: list[float],
    *,
    baseline_name: str,
    at_most: float | None = None,
    at_least: float | None = None,
    higher_is_better: bool = False,
) -> Row:
    """The row of some repeats' figures; the n-th of `ours` was measured next to the n-th of `baseline`.

    Args:
        benchmark: see `Row`, also for arguments marked "...".
        case: ...
        unit: ...
        ours: one figure for each repeat.
        baseline: likewise, all above 0.
        baseline_name: ...
        at_most: the target: the ratio ours / baseline should not be above this.
        at_least: ... or not below that.
        higher_is_better: ...
    """
    ratios = [one / other for one, other in zip(ours, baseline, strict=True)]
    ratio = median(ours) / median(baseline)
    target, met = None, None
    if at_most is not None:
        target, met = f"≤ {at_most:.3g}", ratio <= at_most
    elif at_least is not None:
        target, met = f"≥ {at_least:.3g}", ratio >= at_least
    return Row(
        benchmark=benchmark,
        case=case,
        unit=unit,
        ours=median(ours),
        baseline=median(baseline),
        spread=(max(ratios) - min(ratios)) / 2 / median(ratios) if median(ratios) else 0.0,
        baseline_name=baseline_name,
        target=target,
        met=met,
        higher_is_better=higher_is_better,
    )


def in_turns[T](repeats: int, **contenders: Callable[[], T]) -> dict[str, list[T]]:
    """Run each contender `repeats` times: all once, then all again in the opposite order."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in list(contenders)[:: 1 if repeat % 2 == 0 else -1]:
            results[name].append(contenders[name]())
    return results


@dataclass(slots=True)
class Used:
    """The cost of a piece of work in this process; filled in when it is over."""

    wall: float = 0.0
    """Seconds."""
    cpu: float = 0.0
    """Seconds of processor time, of all threads."""
    peak: int = 0
    """Bytes of memory of the process above those before, at the peak."""


@contextmanager
def used() -> Iterator[Used]:
    """Measures the block it encloses."""
    use = Used()
    forget_peak()
    before = rss_bytes()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield use
    finally:
        use.wall, use.cpu = time.perf_counter() - wall, time.process_time() - cpu
        use.peak = max(0, peak_bytes() - before)


def forget_peak() -> None:
    """Let `peak_bytes` count from now on. Linux only; elsewhere measure in a fresh process."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak of the RSS


def peak_bytes() -> int:
    """The most memory that this process has held."""
    if sys.platform == "linux":
        # Not ru_maxrss: a child begins with that of its parent.
        return _status_bytes("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int:
    """The memory that this process holds now; on systems other than Linux, has held at most."""
    return _status_bytes("VmRSS") if sys.platform == "linux" else peak_bytes()


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise KeyError(key)


class ContenderError(Exception):
    """A contender failed. The message has the end of its output."""


def contender(module: str, task: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Any:
    """Run `python -m module` on `task`, in a fresh interpreter, and return its answer.

    It is given the task as JSON in its one argument, and prints its answer as JSON: see `answer`.

    Args:
        module: e.g. `bench.contenders.pillow`.
        task: what it has to do.
        environment: variables in addition to this process's.

    Raises:
        ContenderError: it failed, or did not end.
    """
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", module, json.dumps(task)],
        cwd=ROOT,
        env=os.environ | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        _running.add(process)
        try:
            output, said = process.communicate(timeout=CONTENDER_SECONDS)
        except BaseException as error:
            process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ContenderError(f"{module} did not end within {CONTENDER_SECONDS} s") from None
            raise
        finally:
            _running.discard(process)
    if process.returncode != 0:
        end = "\n".join(said.splitlines()[-10:])
        raise ContenderError(f"{module} ended with code {process.returncode}:\n{end}")
    return json.loads(output.splitlines()[-1])


def stop_contenders() -> None:
    """End those that run, for a program that is to stop. Their `contender` raises."""
    for process in tuple(_running):
        process.terminate()


_running: set[subprocess.Popen[str]] = set()


def answer(work: Callable[[Any], Mapping[str, Any]]) -> None:
    """The main program of a contender: does `work` on its task and prints what that returns."""
    sys.stdout.write(json.dumps(dict(work(json.loads(sys.argv[1])))) + "\n")


def machine() -> dict[str, str]:
    """The machine and the versions that the figures were measured with."""
    return {
        "processor": f"{os.process_cpu_count()} x {_processor()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "processor of unknown name"
