"""The one error that tells a user that what they gave us is wrong."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do, in one line.

    Commands print it on stderr and exit with 2; any other exception is a failure of our own.
    """


class DroppedFrame(InputError):
    """One frame of a stream that cannot be used; a host counts it and goes on with the next."""
