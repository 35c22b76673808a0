"""`make up`: the same cloud, kept up where Storage Explorer and az look for the emulator."""

import asyncio
from pathlib import Path

from localcloud.cloud import LocalCloud, Ports
from localcloud.model_setting import upstream
from localcloud.terminal import announced, out

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".local" / "up"

# Where the emulator and Core Tools listen when nobody says otherwise; people's tools count on it.
# https://learn.microsoft.com/azure/storage/common/storage-use-azurite
PORTS = Ports(blob=10000, queue=10001, functions=7071)

GUIDE = """
Blobsight is up. Drop an image into the container [bold]images[/], and its result appears in [bold]results[/].

[bold]Azure Storage Explorer[/]
  Open: Emulator & Attached > Storage Accounts > (Emulator - Default Ports) > Blob Containers > images
  Drop: drag the image in. To ask something of your own, give the blob a metadata entry named
        [bold]instructions[/] (right-click > Properties > Add Metadata) and upload it again, or use az.
  Read: Blob Containers > results > [italic]your image's name[/].json

[bold]Azure CLI[/]
  az storage blob upload --connection-string UseDevelopmentStorage=true \\\\
     --container-name images --file photo.jpg --name photo.jpg --metadata instructions="What is in this picture?"
  az storage blob download --connection-string UseDevelopmentStorage=true \\\\
     --container-name results --name photo.jpg.json

[bold]HTTP[/] (the 2024 tutorial's way: the answer comes back at once)
  curl --data-binary @photo.jpg -H "x-functions-key: {key}" \\\\
     "{url}/api/process_image?instructions=What+is+in+this+picture%3F"

Everything is kept in {kept} until make clean. The app's log is {log}. Ctrl-C stops.
"""


async def run() -> int:
    """Serve until stopped."""
    cloud = LocalCloud(
        directory=KEPT,
        app=ROOT,
        in_memory=False,
        ports=PORTS,
        settings={"PROCESS_IMAGE_ENABLED": "true"},
        upstream=upstream(),
        log=KEPT / "functions.log",
    )
    async with announced(cloud):
        out.print(
            GUIDE.format(
                key=cloud.functions.function_key,
                url=cloud.functions.url,
                kept=".local/up",
                log=".local/up/functions.log",
            ),
            soft_wrap=True,
        )
        await asyncio.Event().wait()
    return 0
