"""`make up`: keep the local cloud running on the ports where Storage Explorer and az look for the emulator."""

import asyncio
import os
import re
import socket
from pathlib import Path

from localcloud.cloud import LocalCloud, Ports
from localcloud.errors import LocalCloudError
from localcloud.gallery import gallery
from localcloud.model_setting import upstream
from localcloud.terminal import announced, out

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".local" / "up"

# The default ports of the emulator and of Core Tools, which people's tools use.
# https://learn.microsoft.com/azure/storage/common/storage-use-azurite
PORTS = Ports(blob=10000, queue=10001, functions=7071)

GUIDE = """
Blobsight is up. Look at images and answers, and drop more, in a browser:

  [bold]{gallery}[/]

Or drop an image into the container [bold]images[/] yourself, and its result appears in [bold]results[/].

[bold]Azure Storage Explorer[/]
  Open: Emulator & Attached > Storage Accounts > (Emulator - Default Ports) > Blob Containers > images
  Drop: drag the image in. To ask your own question, first drop a text file next to it, named after it:
        [bold]photo.jpg.instructions.txt[/], or [bold]_instructions.txt[/] for all images of a folder.
  Read: Blob Containers > results > [italic]your image's name[/].json

[bold]Azure CLI[/]
  az storage blob upload --connection-string UseDevelopmentStorage=true \\
     --container-name images --file photo.jpg --name photo.jpg --metadata instructions="What is in this picture?"
  az storage blob download --connection-string UseDevelopmentStorage=true \\
     --container-name results --name photo.jpg.json

[bold]blobsight[/] (for folders and more: docs/command-line.md)
  .venv/bin/blobsight upload --local photos/ --instructions "What is in this picture?" --wait
  A second, smaller model to compare with: [bold]deployment: vision-small[/] (docs/running-locally.md)

[bold]HTTP[/] (as in the 2024 tutorial: the answer is the response)
  curl --data-binary @photo.jpg -H "x-functions-key: {key}" \\
     "{url}/api/process_image?instructions=What+is+in+this+picture%3F"

Everything is kept in {kept} until `make clean`. The app's log is {kept}/functions.log. Ctrl-C stops.
Outcome of each image:
"""

OUTCOME = re.compile(r"(?:INFO|WARNING) pipeline\.(?:analysis|deliveries): (?P<outcome>.*)")


async def run() -> int:
    """Serve until stopped."""
    _require_free(PORTS)
    log = KEPT / "functions.log"
    cloud = LocalCloud(
        directory=KEPT,
        app=ROOT,
        in_memory=False,
        ports=PORTS,
        settings={"PROCESS_IMAGE_ENABLED": "true"},
        upstream=upstream(),
        log=log,
    )
    async with announced(cloud), gallery("--local", log=KEPT / "gallery.log") as address:
        guide = GUIDE.format(
            gallery=address or "(it could not be started: .local/up/gallery.log says why)",
            key=cloud.functions.function_key,
            url=cloud.functions.url,
            kept=".local/up",
        )
        out.print(guide, soft_wrap=True)
        await _follow(log)
    return 0


def _require_free(ports: Ports) -> None:
    """Check all ports before anything is started, and name all that are taken."""
    services = {"Blob Storage": ports.blob, "Queue Storage": ports.queue, "the functions host": ports.functions}
    taken = [f"{port} ({service})" for service, port in services.items() if not _is_free(port)]
    if taken:
        raise LocalCloudError(
            f"In use: port {', port '.join(taken)}. Stop the emulator, Core Tools or other `make up` that is running"
            " there, and try again. (`make demo` takes free ports.)"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: a server that has just stopped does not block the port
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def _follow(log: Path) -> None:
    """Show the outcome of each image, as the app logs it."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        lines.seek(0, os.SEEK_END)
        while True:
            while line := lines.readline():
                if found := OUTCOME.search(line):
                    out.print(found["outcome"].rstrip(), markup=False, soft_wrap=True)
            await asyncio.sleep(0.3)
