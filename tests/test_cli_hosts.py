"""A sign-in's token goes to Azure's hosts, to this machine, and to no other host that somebody's address names."""

import pytest
from click.testing import CliRunner

from blobsight.cli import blobsight
from blobsight.hosts import MODEL, RESOURCE_MANAGER, STORAGE, is_trusted


@pytest.mark.parametrize(
    "address",
    [
        "https://a.blob.core.windows.net",
        "https://a.privatelink.blob.core.windows.net:443/",
        "https://a.z12.blob.storage.azure.net",
        "https://a.blob.core.usgovcloudapi.net",
        "https://a.queue.core.chinacloudapi.cn",
        "https://A.BLOB.CORE.WINDOWS.NET.",
        "https://127.0.0.1:10000/devstoreaccount1",
        "https://[::1]:10000/a",
    ],
)
def test_azures_hosts_and_this_machine_get_it(address: str) -> None:
    assert is_trusted(address, STORAGE, ())


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "https://a.blob.core.windows.net.evil.example",
        "https://blob.core.windows.net@evil.example",
        "https://evil.example/a.blob.core.windows.net",
        "https://evil.example#.blob.core.windows.net",
        "https://evilblob.core.windows.net",
        "https://evil.example\\.blob.core.windows.net",
        "https://a.azurewebsites.net",
    ],
)
def test_no_other_gets_it_unless_it_is_trusted(address: str) -> None:
    assert not is_trusted(address, STORAGE, ())
    assert not is_trusted(address, STORAGE, ("example",))
    assert is_trusted("https://evil.example:8443/a", STORAGE, ("EVIL.example",))


def test_each_purpose_has_its_hosts() -> None:
    assert is_trusted("https://oai.openai.azure.com", MODEL, ())
    assert not is_trusted("https://oai.openai.azure.com", STORAGE, ())
    assert is_trusted("https://management.azure.com", RESOURCE_MANAGER, ())
    assert not is_trusted("https://a.management.azure.com", RESOURCE_MANAGER, ())


@pytest.mark.parametrize(
    ("arguments", "environment", "host"),
    [
        (["status", "--account", "https://evil.example"], {}, "evil.example"),
        (["status"], {"BLOBSIGHT_ACCOUNT": "https://evil.example"}, "evil.example"),
        (["status"], {"AZURE_STORAGE_BLOB_ENDPOINT": "https://evil.example/"}, "evil.example"),
        (["retry", "-a", "mine"], {"AZURE_STORAGE_QUEUE_ENDPOINT": "https://queue.evil.example"}, "queue.evil.example"),
        (["doctor", "-a", "mine", "--resource-manager", "https://evil.example"], {}, "evil.example"),
        (
            ["status", "-a", "https://evil.example", "--trust-host", "good.example"],
            {"BLOBSIGHT_TRUST_HOST": "other.example"},
            "evil.example",
        ),
    ],
)
def test_a_command_says_so_before_it_signs_in(arguments: list[str], environment: dict[str, str], host: str) -> None:
    """The same for each address, from an option or from the environment."""
    done = CliRunner().invoke(blobsight, arguments, env=environment)
    assert done.exit_code == 2
    assert f"{host} is not one of Azure's hosts" in " ".join(done.stderr.split())
    assert f"--trust-host {host}" in " ".join(done.stderr.split())
