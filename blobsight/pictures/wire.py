"""What is said to a decoder process, and what it answers.

A request is a header (`REQUEST`: longest side in pixels, bytes) and the file. An answer is a header (`ANSWER`: 1 for a
picture or 0 for a reason, bytes) and the picture or the reason.
"""

import struct

REQUEST = struct.Struct(">II")
ANSWER = struct.Struct(">BI")
MOST_BYTES = 64 * 1024 * 1024
"""Of a file, stored and unpacked."""
