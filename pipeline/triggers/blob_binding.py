"""The blob trigger's parameter: where the blob is, and nothing else.

docs/decisions/0001-own-storage-client.md says why. This is the worker library's extension point for types that take no
bytes: for a function's parameter of such a type, the host sends a reference to the blob and not its content.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import override

from azurefunctions.extensions.base import Datum, InConverter, SdkType


@dataclass(frozen=True, slots=True)
class BlobName(SdkType):  # type: ignore[misc]  # the package ships no types
    """A blob of the account that the trigger's connection names."""

    container: str
    name: str


class BlobNameConverter(InConverter, binding="blob", trigger="blobTrigger"):  # type: ignore[misc,call-arg]  # likewise
    """Makes a `BlobName` for the worker library. Its definition registers it."""

    @classmethod
    @override
    def check_input_type_annotation(cls, pytype: type) -> bool:
        return issubclass(pytype, BlobName)

    @classmethod
    @override
    def decode(cls, data: Datum, *, trigger_metadata: Mapping[str, Datum], pytype: type) -> BlobName:
        """The blob that the host names.

        Args:
            data: a ModelBindingData message; its content is JSON with Connection, ContainerName and BlobName, as the
                host's Storage extension writes it.
            trigger_metadata: not needed.
            pytype: `BlobName`.

        Raises:
            ValueError: it sent something else.
        """
        if data.type != "model_binding_data":
            raise ValueError(f"The host sent {data.type} instead of a blob's name: its extension bundle is too old.")
        named = json.loads(data.value.content)
        return BlobName(named["ContainerName"], named["BlobName"])
