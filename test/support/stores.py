"""An S3 server on loopback."""

import logging
import os
import urllib.request
from contextlib import contextmanager

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
