"""Room in which messages are serialised: what comes out is what rosbags makes anew, whatever was there before."""

import platform
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import ROOT
from support.bags import START, raw, string
from support.worlds import picture
from vps_ros.live.dds_room import Room
from vps_ros.messages.typestore import typestore

PICTURES = """
import resource
from vps_ros.live.dds_room import keep_memory
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


def anew(message):
    return bytes(typestore().serialize_cdr(message, message.__msgtype__))


def padded(cdr):
    return cdr + bytes(-len(cdr) % 4)


@given(st.lists(st.one_of(st.text(max_size=9), st.tuples(st.integers(1, 3), st.text(max_size=9))), max_size=6))
def test_a_room_holds_what_is_made_anew(contents):
    room, given_bytes = Room(), Room()
    for one in contents:
        message = string(one) if isinstance(one, str) else raw(picture({}, (one[0], 2)), START, one[1])
        cdr = anew(message)
        assert room.serialise(message, message.__msgtype__) == padded(cdr)
        assert given_bytes.fill(cdr) == given_bytes.fill(memoryview(cdr)) == padded(cdr)


def test_a_room_is_used_again_and_nothing_is_copied_to_make_words_of_it():
    room = Room()
    image = raw(picture({}), START)
    first = room.serialise(image, image.__msgtype__)
    assert room.serialise(image, image.__msgtype__) is first
    # As Cyclone's binding does before each message.
    assert first.ljust((len(first) + 3) & ~3, b"\0") is first
    assert first.ljust(len(first) + 4, b"\0") == first + bytes(4)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_memory_that_was_freed_is_not_asked_for_anew():
    faults = []
    for start in ("", "keep_memory()"):
        done = subprocess.run([sys.executable, "-c", f"{PICTURES}\n{start}\n{COUNT}"], capture_output=True, cwd=ROOT)
        faults.append(int(done.stdout))
    assert faults[1] < faults[0] / 4
