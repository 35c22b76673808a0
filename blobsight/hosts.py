"""Hosts that get a token of the caller's: Azure's own, this machine, and those that the caller trusts.

Whoever has a token for storage may do there what its owner may. An address comes from an option or from the
environment, which a project's folder may have set.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import click

STORAGE = (
    ".blob.core.windows.net",
    ".queue.core.windows.net",
    ".blob.storage.azure.net",
    ".queue.storage.azure.net",
    ".blob.core.usgovcloudapi.net",
    ".queue.core.usgovcloudapi.net",
    ".blob.core.chinacloudapi.cn",
    ".queue.core.chinacloudapi.cn",
)
"""https://learn.microsoft.com/azure/storage/common/storage-account-overview#storage-account-endpoints"""
MODEL = (
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
    ".cognitiveservices.azure.us",
    ".openai.azure.cn",
    ".cognitiveservices.azure.cn",
)
RESOURCE_MANAGER = ("management.azure.com", "management.usgovcloudapi.net", "management.chinacloudapi.cn")

_NAME = re.compile(r"[a-z0-9.-]+")
_HERE = ("127.0.0.1", "localhost", "::1")


def is_trusted(url: str, azures: Iterable[str], trusted: Iterable[str]) -> bool:
    """Whether a token may be sent to `url`.

    Args:
        url: an address; one without a host, which nothing can be sent to, will do.
        azures: Azure's hosts for this purpose: a suffix with a dot in front, or a whole name.
        trusted: hosts that the caller trusts.
    """
    host = host_of(url)
    plain = _NAME.fullmatch(host)  # some read a host with other characters differently: up to a backslash, for example
    azure = plain and any(host.endswith(name) if name.startswith(".") else host == name for name in azures)
    return not host or bool(azure) or host in _HERE or host in {name.lower() for name in trusted}


def require_trusted(url: str, azures: Iterable[str], trusted: Iterable[str], option: str) -> None:
    """Check that a token may be sent to `url`, which `option` gave.

    Raises:
        click.BadParameter: it may not.
    """
    if not is_trusted(url, azures, trusted):
        host = host_of(url)
        raise click.BadParameter(
            f"{host} is not one of Azure's hosts, and would get your sign-in's token. If you know it to be yours, add"
            f" --trust-host {host}.",
            param_hint=option,
        )


def host_of(url: str) -> str:
    """The host of an address, in small letters; "" if there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
