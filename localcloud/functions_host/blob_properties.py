"""A blob's properties as the host's trigger metadata hold them: .NET's BlobProperties in Newtonsoft's JSON.

https://learn.microsoft.com/dotnet/api/azure.storage.blobs.models.blobproperties
"""

import base64
from datetime import datetime
from typing import Any

from azure.storage.blob import BlobProperties

_BLOB_TYPES = ("BlockBlob", "PageBlob", "AppendBlob")
_LEASE_STATES = ("available", "leased", "expired", "breaking", "broken")
_LEASE_STATUSES = ("locked", "unlocked")
_LEASE_DURATIONS = ("infinite", "fixed")
_COPY_STATUSES = ("pending", "success", "aborted", "failed")


def dotnet(properties: BlobProperties) -> dict[str, Any]:
    """Ready for JSON: times as text, enumerations as their numbers, as Newtonsoft writes them."""
    content, copy = properties.content_settings, properties.copy
    return {
        "LastModified": _time(properties.last_modified),
        "CreatedOn": _time(properties.creation_time),
        "Metadata": dict(properties.metadata),
        "ObjectReplicationDestinationPolicyId": properties.object_replication_destination_policy,
        "ObjectReplicationSourceProperties": None,
        "BlobType": _number(_BLOB_TYPES, properties.blob_type),
        "CopyCompletedOn": _time(copy.completion_time),
        "CopyStatusDescription": copy.status_description,
        "CopyId": copy.id,
        "CopyProgress": copy.progress,
        "CopySource": copy.source,
        "BlobCopyStatus": _number(_COPY_STATUSES, copy.status) if copy.status else None,
        "IsIncrementalCopy": bool(copy.incremental_copy),
        "DestinationSnapshot": copy.destination_snapshot,
        "LeaseDuration": _number(_LEASE_DURATIONS, properties.lease.duration),
        "LeaseState": _number(_LEASE_STATES, properties.lease.state),
        "LeaseStatus": _number(_LEASE_STATUSES, properties.lease.status),
        "ContentLength": properties.size,
        "ContentType": content.content_type,
        "ETag": {},  # a structure without public properties: nothing is left of it
        "ContentHash": base64.b64encode(content.content_md5).decode() if content.content_md5 else None,
        "ContentEncoding": content.content_encoding,
        "ContentDisposition": content.content_disposition,
        "ContentLanguage": content.content_language,
        "CacheControl": content.cache_control,
        "BlobSequenceNumber": properties.page_blob_sequence_number or 0,
        "AcceptRanges": "bytes",
        "BlobCommittedBlockCount": properties.append_blob_committed_block_count or 0,
        "IsServerEncrypted": bool(properties.server_encrypted),
        "EncryptionKeySha256": properties.encryption_key_sha256,
        "EncryptionScope": properties.encryption_scope,
        "AccessTier": properties.blob_tier,
        "AccessTierInferred": bool(properties.blob_tier_inferred),
        "ArchiveStatus": properties.archive_status,
        "AccessTierChangedOn": _time(properties.blob_tier_change_time),
        "VersionId": properties.version_id,
        "IsLatestVersion": bool(properties.is_current_version),
        "TagCount": properties.tag_count or 0,
        "ExpiresOn": _time(None),
        "IsSealed": bool(properties.is_append_blob_sealed),
        "RehydratePriority": properties.rehydrate_priority,
        "LastAccessed": _time(properties.last_accessed_on),
        "HasLegalHold": bool(properties.has_legal_hold),
    }


def _time(moment: datetime | None) -> str:
    return moment.isoformat() if moment else "0001-01-01T00:00:00+00:00"


def _number(members: tuple[str, ...], value: Any) -> int:
    """The place of a service's word in .NET's enumeration; 0, its default, for none."""
    text = str(getattr(value, "value", value) or members[0])
    return members.index(text) if text in members else 0
