"""`blobsight invite`: an address with which somebody without a sign-in uploads images, and can do nothing else.

It is a shared access signature that allows creating blobs. In Azure it is signed with a key that storage gives to the
caller's own sign-in for a week at most, so it can't do more than the caller may: conditions on the caller's role count.
https://learn.microsoft.com/azure/storage/common/storage-sas-overview#user-delegation-sas
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import click
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import (
    BlobSasPermissions,
    ContainerSasPermissions,
    UserDelegationKey,
    generate_blob_sas,
    generate_container_sas,
)

from blobsight.account import Account, Place, account_options, code
from blobsight.running import run
from blobsight.terminal import Exit, Trouble, plain, say, write_json
from pipeline.names import is_blob_name

LONGEST = timedelta(days=7)
"""For which storage gives such a key. https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key"""
CLOCKS = timedelta(minutes=5)
"""Between which clocks may differ."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """A time such as 90m, 12h or 7d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", value)
        time = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
        if time is None or time > LONGEST:
            self.fail(f"'{value}' is not a time: write 90m, 12h or 2d, at most 7d.", param, ctx)
        return time


@click.command()
@click.argument("name", required=False)
@click.option(
    "--for", "duration", type=Duration(), default="1d", show_default=True, help="How long it is valid: 90m, 12h, 7d."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout: url, expires.")
@account_options
def invite(place: Place, name: str | None, duration: timedelta, *, as_json: bool) -> Exit:
    """Print an address with which somebody without a sign-in can upload images, and can do nothing else.

    With it, new images are put into the input container: none is overwritten, read, listed or deleted. With NAME it is
    for that one image. Whoever has the address has the right, so hand it on as you would a password. It expires
    automatically; docs/trust.md says how to end it earlier, and how to keep a partner to a folder.

    \b
    blobsight invite --for 7d
    blobsight invite orders/1234.jpg --for 2h
    """  # noqa: D301 - click's mark of lines to leave alone
    if name is not None and not is_blob_name(name):
        raise click.BadParameter("a blob can't have this name.", param_hint="NAME")
    return run(_run(place, name, duration, as_json=as_json))


async def _run(place: Place, name: str | None, duration: timedelta, *, as_json: bool) -> Exit:
    async with place.opened() as account:
        expires = (datetime.now(UTC) + duration).replace(microsecond=0)
        url = await invitation(account, name, expires)
    if as_json:
        write_json({"url": url, "expires": expires.isoformat().replace("+00:00", "Z")})
        return Exit.DONE
    plain(url)
    what = f"create '{name}'" if name else f"put new images into '{place.images}'"
    say(f"Whoever has it can {what} until {expires:%Y-%m-%d %H:%M} UTC, and do nothing else. For example:")
    address = '"<the address>"' if name else '"<the address up to the ?>/photo.jpg?<the rest>"'
    say(f'  curl --fail --upload-file photo.jpg --header "x-ms-blob-type: BlockBlob" {address}')
    return Exit.DONE


async def invitation(account: Account, name: str | None, expires: datetime) -> str:
    """The address of the input container, or of the blob `name` in it, with the right to create blobs there.

    Raises:
        Trouble: there is neither a sign-in nor a key to sign it with.
    """
    images = account.images
    start = datetime.now(UTC) - CLOCKS
    signing: dict[str, Any] = {"start": start, "expiry": expires}
    if account.credential is not None:
        signing["user_delegation_key"] = await _delegation_key(account, start, expires)
    elif (key := getattr(account.blobs.credential, "account_key", None)) is not None:
        signing["account_key"] = key
    else:
        raise Trouble("This connection string has no key to sign with: give --account, and sign in with `az login`.")
    if urlsplit(images.url).scheme == "https":
        signing["protocol"] = "https"
    of = str(account.blobs.account_name)
    if name is None:
        permission = ContainerSasPermissions(create=True)
        return f"{images.url}?{generate_container_sas(of, images.container_name, permission=permission, **signing)}"
    sas = generate_blob_sas(of, images.container_name, name, permission=BlobSasPermissions(create=True), **signing)
    return f"{images.get_blob_client(name).url}?{sas}"


async def _delegation_key(account: Account, start: datetime, expires: datetime) -> UserDelegationKey:
    try:
        return await account.blobs.get_user_delegation_key(start, expires)
    except HttpResponseError as error:
        if error.status_code != 403:
            raise
        raise Trouble(
            f"{account.place.account} gives you no key to sign an invitation with ({code(error)}). You need the role"
            " 'Storage Blob Delegator' on the account, and one that lets you create images; a new role takes effect"
            " within ten minutes."
        ) from error
