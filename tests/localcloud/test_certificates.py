"""Certificates last over restarts, and every HTTP client in the project trusts them."""

import datetime as dt
import os
import stat
import subprocess
import sys
from pathlib import Path

import certifi
import trustme

from localcloud.azurite import Azurite
from localcloud.certificates import Certificates


def test_a_restart_keeps_them(tmp_path: Path) -> None:
    first = Certificates.load_or_create(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    assert Certificates.load_or_create(tmp_path) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_ones_about_to_expire_are_replaced(tmp_path: Path) -> None:
    certificates = Certificates.load_or_create(tmp_path)
    authority = trustme.CA()
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(days=29)
    ending = authority.issue_cert("127.0.0.1", not_after=soon)
    ending.private_key_pem.write_to_path(certificates.key)
    ending.cert_chain_pems[0].write_to_path(certificates.certificate)
    authority.cert_pem.write_to_path(certificates.authority)

    renewed = Certificates.load_or_create(tmp_path)

    assert renewed.certificate.read_bytes() != ending.cert_chain_pems[0].bytes()


def test_damaged_or_mismatched_files_are_replaced(tmp_path: Path) -> None:
    certificates = Certificates.load_or_create(tmp_path)
    certificates.key.write_bytes(trustme.CA().private_key_pem.bytes())
    Certificates.load_or_create(tmp_path).server_context()
    certificates.authority.write_bytes(trustme.CA().cert_pem.bytes())
    Certificates.load_or_create(tmp_path).server_context()
    certificates.certificate.write_text("not a certificate")

    Certificates.load_or_create(tmp_path).server_context()


def test_only_the_owner_can_read_the_key(tmp_path: Path) -> None:
    assert stat.S_IMODE(Certificates.load_or_create(tmp_path).key.stat().st_mode) == 0o600


def test_the_bundle_still_trusts_the_internet(certificates: Certificates) -> None:
    assert certificates.bundle.read_bytes() == Path(certifi.where()).read_bytes() + certificates.authority.read_bytes()


def test_two_environment_variables_make_all_clients_trust_them(certificates: Certificates, azurite: Azurite) -> None:
    """Nothing else is set for the function app: requests, aiohttp and openai's httpx2, strict checks included."""
    program = """
import asyncio, sys
import aiohttp, httpx2, requests

async def main(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        print("aiohttp", response.status)
    async with httpx2.AsyncClient() as client:
        print("httpx2", (await client.get(url)).status_code)
    print("requests", requests.get(url, timeout=10).status_code)

for url in sys.argv[1:]:
    asyncio.run(main(url))
"""
    address = azurite.blob_url("devstoreaccount1")
    bundle = str(certificates.bundle)

    done = subprocess.run(
        [sys.executable, "-c", program, address, address.replace("127.0.0.1", "localhost")],
        env=os.environ | {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle},
        capture_output=True,
        text=True,
        check=False,
    )

    # 400: the TLS handshake is done, and a storage account's bare address is not a request.
    assert (done.stdout.splitlines(), done.stderr) == (["aiohttp 400", "httpx2 400", "requests 400"] * 2, "")
