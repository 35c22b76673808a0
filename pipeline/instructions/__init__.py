"""Instructions: what to ask about an image, and how, from the first source that has text.

    request > blob metadata > sidecar > nearest folder file > setting > built-in

metadata_text.py   text in metadata, however it was squeezed into ASCII
files.py           the grammar of instruction files
plain_text.py      documents that are not plain text, and invisible text
misnamed.py        names that are nearly right
options.py         the options that may stand beside the text
sources.py         the order above, and where the files lie
"""

from pipeline.instructions.authority import Authority, Origin
from pipeline.instructions.sources import BUILT_IN, Files, Instructions, InstructionSources

__all__ = ["BUILT_IN", "Authority", "Files", "InstructionSources", "Instructions", "Origin"]
