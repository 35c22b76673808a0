"""How much memory a conversion takes, in a process that does nothing else."""

import gc

from PIL import Image

from pipeline.images import ImageLimits
from pipeline.images.resolution import STANDARD, Resolution
from support.damaged_images import encoded
from support.documents import psd
from support.preparing import inspected, prepare
from support.process_memory import CLEAR_REFS, held


def peak_and_estimate(data: bytes, seen: Resolution = STANDARD) -> tuple[int, int]:
    """(what the conversion held at its peak beside the file, what was estimated) in bytes, after one to warm up."""
    any_size = ImageLimits(2**40, 2**40, 2**40, seen)
    inspection = inspected(data, any_size)
    kind = inspection.facts.format.upper().replace("HEIC", "HEIF")
    small = Image.new("RGB", (2_100, 64), "teal")
    prepare(psd(small) if kind == "PSD" else encoded(small, kind))
    gc.collect()
    CLEAR_REFS.write_text("5", encoding="ascii")  # the peak starts over: proc_pid_clear_refs(5)
    before = held("VmRSS")
    prepare(data, any_size)
    return held("VmHWM") - before, inspection.conversion_bytes
