"""Servers of S3, Google Cloud Storage and Azure on loopback."""

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 120.0
"""Timeout in seconds; a busy machine is slow."""
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Public: every Azurite has it."""

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def s3_server(bucket: str):
    """Starts a server with an empty bucket; this process and those that it starts find it by their environment."""
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    # It logs each request otherwise.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    before = dict(os.environ)
    try:
        host, port = server.get_host_and_port()
        os.environ.update(KEYS, AWS_ENDPOINT_URL=f"http://{host}:{port}")
        boto3.client("s3").create_bucket(Bucket=bucket)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()


@contextmanager
def rights_of_nobody():
    """Meanwhile the server refuses every request of the keys."""
    try:
        _refuse_after("0")
        yield
    finally:
        _refuse_after("inf")


def _refuse_after(requests: str) -> None:
    url = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(url, requests.encode(), {"Content-Type": "text/plain"})).close()


@contextmanager
def gs_server(bucket: str):
    """Starts an emulator of Google Cloud Storage with an empty bucket; yields the options of URIs for it."""
    port = _free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--in-memory", f"--default-bucket={bucket}"]
    with _running([*command, "--host=127.0.0.1", f"--port={port}"], port):
        yield f"?scheme=http&endpoint_override=127.0.0.1:{port}"


@contextmanager
def az_server(container: str, folder: Path):
    """Starts Azurite with an empty container; adlfs finds it by the environment. Yields host and port."""
    from azure.storage.blob import BlobServiceClient

    port = _free_port()
    command = ["azurite-blob", "--silent", "--skipApiVersionCheck", "--location", str(folder)]
    before = dict(os.environ)
    with _running([*command, "--blobHost", "127.0.0.1", "--blobPort", str(port)], port):
        try:
            account = f"AccountName=devstoreaccount1;AccountKey={AZURITE_KEY}"
            endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1"
            connection = f"DefaultEndpointsProtocol=http;{account};{endpoint};"
            os.environ["AZURE_STORAGE_CONNECTION_STRING"] = connection
            with BlobServiceClient.from_connection_string(connection) as client:
                client.create_container(container)
            yield f"127.0.0.1:{port}"
        finally:
            os.environ.clear()
            os.environ.update(before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _running(command: list[str], port: int):
    """A server, from the time on when it takes connections."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + PATIENCE
            while True:
                assert process.poll() is None and time.monotonic() < end, f"{command[0]} does not start"
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield
        finally:
            process.kill()
