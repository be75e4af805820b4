"""The buffer in which messages are serialised: its bytes are those of rosbags, whatever it held before."""

import platform
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("cyclonedds", reason='DDS needs cyclonedds; pip install "vps_ros[live]"')

from support import ROOT  # noqa: E402
from support.bags import START, raw, string  # noqa: E402
from support.worlds import picture  # noqa: E402
from vps_ros.live.dds_serialisation import SerialisationBuffer  # noqa: E402
from vps_ros.messages.typestore import typestore  # noqa: E402

PICTURES = """
import resource
from vps_ros.live.process import keep_memory
def pictures():
    for _ in range(20):
        held = [bytearray(6_000_000) for _ in range(5)]
        for one in held:
            one[::4096] = bytes(len(one[::4096]))
"""
COUNT = """
pictures()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
pictures()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def serialised(message):
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def padded(cdr):
    return cdr + bytes(-len(cdr) % 4)


@settings(deadline=None)
@given(st.lists(st.one_of(st.text(max_size=9), st.tuples(st.integers(1, 3), st.text(max_size=9))), max_size=6))
def test_the_buffer_gives_the_bytes_of_rosbags(contents):
    buffer, copies = SerialisationBuffer(), SerialisationBuffer()
    for one in contents:
        message = string(one) if isinstance(one, str) else raw(picture({}, (one[0], 2)), START, one[1])
        cdr = serialised(message)
        assert buffer.serialise(message, message.__msgtype__) == padded(cdr)
        assert copies.copy(cdr) == copies.copy(memoryview(cdr)) == padded(cdr)


def test_the_memory_is_used_again_and_not_copied_to_pad_it():
    buffer = SerialisationBuffer()
    image = raw(picture({}), START)
    first = buffer.serialise(image, image.__msgtype__)
    assert buffer.serialise(image, image.__msgtype__) is first
    # As Cyclone's binding does before each message.
    assert first.ljust((len(first) + 3) & ~3, b"\0") is first
    assert first.ljust(len(first) + 4, b"\0") == first + bytes(4)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_freed_memory_is_kept():
    faults = []
    for start in ("", "keep_memory()"):
        done = subprocess.run([sys.executable, "-c", f"{PICTURES}\n{start}\n{COUNT}"], capture_output=True, cwd=ROOT)
        faults.append(int(done.stdout))
    assert faults[1] < faults[0] / 4
