"""Calls of the CUDA driver library: GPU, version, pinned memory. Without CUDA they return None or False."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from numpy.typing import NDArray

_DRIVER = "libcuda.so.1"
_PORTABLE = 1
"""CU_MEMHOSTREGISTER_PORTABLE: pinned for all contexts of the process."""
_NAME_LENGTH = 256


def gpu_name() -> str | None:
    """Name of the first GPU; None without one."""
    try:
        driver = _driver()
        device, name = _first(driver), ctypes.create_string_buffer(_NAME_LENGTH)
        _checked(driver.cuDeviceGetName(name, _NAME_LENGTH, device))
    except OSError:
        return None
    return name.value.decode(errors="replace")


def driver_version() -> str | None:
    """The newest CUDA version that the driver supports, such as 12.4; None without a driver."""
    try:
        driver, version = _driver(), ctypes.c_int()
        _checked(driver.cuDriverGetVersion(ctypes.byref(version)))
    except OSError:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def pin(array: NDArray) -> bool:
    """Pins the memory of an array, so that the GPU copies it directly; returns whether that succeeded.

    The array must not be freed before `unpin`.
    """
    try:
        driver = _driver()
        with _context(driver):
            address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            _checked(driver.cuMemHostRegister_v2(address, size, _PORTABLE))
    except OSError:
        return False
    return True


def unpin(array: NDArray) -> None:
    """Reverses `pin`; must be called before the memory is freed."""
    try:
        driver = _driver()
        with _context(driver):
            _checked(driver.cuMemHostUnregister(ctypes.c_void_p(array.ctypes.data)))
    except OSError:
        return


def _driver() -> ctypes.CDLL:
    """The driver library; raises OSError without one, as a failed call does."""
    driver = ctypes.CDLL(_DRIVER)
    _checked(driver.cuInit(0))
    return driver


def _first(driver: ctypes.CDLL) -> ctypes.c_int:
    device = ctypes.c_int()
    _checked(driver.cuDeviceGet(ctypes.byref(device), 0))
    return device


@contextmanager
def _context(driver: ctypes.CDLL) -> Iterator[None]:
    """Makes the primary context of the first GPU current; ONNX Runtime uses the same one."""
    device, context = _first(driver), ctypes.c_void_p()
    _checked(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    try:
        _checked(driver.cuCtxPushCurrent_v2(context))
        try:
            yield
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)


def _checked(result: int) -> None:
    if result:
        raise OSError(f"CUDA error {result}")
