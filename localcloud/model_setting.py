"""The setting that lets another model answer."""

import os
from urllib.parse import urlsplit

from localcloud.errors import LocalCloudError

VARIABLE = "LOCAL_MODEL_URL"


def upstream() -> str | None:
    """Return the base URL of an OpenAI-compatible vision server (Ollama, vLLM, LM Studio), if one is set.

    Raises:
        LocalCloudError: it is not an http(s) address.
    """
    url = os.environ.get(VARIABLE, "").strip()
    if url and not (urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname):
        raise LocalCloudError(
            f"{VARIABLE}={url} is not an http(s) address: set it to a base URL such as http://localhost:11434/v1."
        )
    return url or None
