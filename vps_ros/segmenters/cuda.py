"""The few things that CUDA's driver library tells and does; all of it without CUDA is None or False."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from numpy.typing import NDArray

_DRIVER = "libcuda.so.1"
_PORTABLE = 1
"""CU_MEMHOSTREGISTER_PORTABLE: pinned for every context of the process."""
_NAME_LENGTH = 256


def gpu_name() -> str | None:
    """Of the first GPU."""
    try:
        driver = _driver()
        device, name = _first(driver), ctypes.create_string_buffer(_NAME_LENGTH)
        _checked(driver.cuDeviceGetName(name, _NAME_LENGTH, device))
    except OSError:
        return None
    return name.value.decode(errors="replace")


def driver_version() -> str | None:
    """The newest CUDA that the driver runs, as 12.4."""
    try:
        driver, version = _driver(), ctypes.c_int()
        _checked(driver.cuDriverGetVersion(ctypes.byref(version)))
    except OSError:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def pin(array: NDArray) -> bool:
    """Locks the pages of an array that lives as long as the process, so that the GPU copies it without a detour."""
    try:
        driver = _driver()
        with _context(driver):
            address, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
            _checked(driver.cuMemHostRegister_v2(address, size, _PORTABLE))
    except OSError:
        return False
    return True


def unpin(array: NDArray) -> None:
    """Undoes `pin`, before the memory is given back."""
    try:
        driver = _driver()
        with _context(driver):
            _checked(driver.cuMemHostUnregister(ctypes.c_void_p(array.ctypes.data)))
    except OSError:
        return


def _driver() -> ctypes.CDLL:
    """Raises OSError where there is none, as a failed call does."""
    driver = ctypes.CDLL(_DRIVER)
    _checked(driver.cuInit(0))
    return driver


def _first(driver: ctypes.CDLL) -> ctypes.c_int:
    device = ctypes.c_int()
    _checked(driver.cuDeviceGet(ctypes.byref(device), 0))
    return device


@contextmanager
def _context(driver: ctypes.CDLL) -> Iterator[None]:
    """The context of the first GPU that ONNX Runtime uses too."""
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
