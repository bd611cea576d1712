"""What the NVIDIA driver says of its GPUs: which there are, how busy they are. Through its own library; nothing to install for it.

Loaded only when somebody asks for a GPU. Everything here may fail on a machine without a driver, and says so in one exception.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


class NoDriver(Exception):
    """Why the driver cannot be asked."""


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    uuid: str
    name: str
    memory_bytes: int


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _Rates(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


@lru_cache(maxsize=4)
def _library(name: str) -> Any:
    """Raises NoDriver."""
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise NoDriver(f"the NVIDIA driver is not installed ({error})") from error
    code = library.nvmlInit_v2()
    if code != 0:
        library.nvmlErrorString.restype = ctypes.c_char_p
        raise NoDriver(f"the NVIDIA driver does not work: {library.nvmlErrorString(code).decode()}")
    return library


def gpus() -> tuple[Gpu, ...]:
    """Raises NoDriver."""
    library, count = _library(LIBRARY), ctypes.c_uint()
    _check(library.nvmlDeviceGetCount_v2(ctypes.byref(count)))
    return tuple(_gpu(library, index) for index in range(count.value))


def _gpu(library: Any, index: int) -> Gpu:
    handle, memory = _handle(library, index), _Memory()
    uuid, name = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
    _check(library.nvmlDeviceGetUUID(handle, uuid, 96))
    _check(library.nvmlDeviceGetName(handle, name, 96))
    _check(library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
    return Gpu(index, uuid.value.decode(), name.value.decode(), int(memory.total))


def busy(index: int) -> tuple[int, int]:
    """(utilisation in percent, bytes of memory in use). Raises NoDriver."""
    library, rates, memory = _library(LIBRARY), _Rates(), _Memory()
    handle = _handle(library, index)
    _check(library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates)))
    _check(library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)))
    return int(rates.gpu), int(memory.used)


def _handle(library: Any, index: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _check(library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)))
    return handle


def _check(code: int) -> None:
    if code != 0:
        raise NoDriver(f"the NVIDIA driver answers with error {code}")
