"""Errors about wrong input."""

from __future__ import annotations


class InputError(ValueError):
    """Wrong input: the message says in one line what is wrong, where, and what to do.

    Commands print it on stderr and exit with code 2. Any other exception is a defect of this package.
    """


class DroppedFrame(InputError):
    """One frame of a stream cannot be used; a host counts it and continues with the next frame."""
