"""The device and number format that the model computes in."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from asr.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
# As torch, CUDA's driver and libraries, Metal and oneDNN put it, none of which is a torch.OutOfMemoryError. A primitive that
# oneDNN does not have is told in longer words.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|bad_alloc|CU\w+_STATUS_ALLOC_FAILED|could not create a primitive$",
    re.IGNORECASE,
)


def select_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the first CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device '{name}': no such device; expected auto, cpu, cuda, cuda:1, mps, ...") from error
    try:
        # Reading a value back fails also where a tensor could be made, as on the "meta" device.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        found = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        raise ConfigError(
            f"device '{name}' is not available: this machine has {found} (`asr doctor` tells more)"
        ) from error
    return device


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` says that something did not fit into a device's memory: often it is a RuntimeError as any other."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)) is not None


def wait_for(device: torch.device) -> None:
    """Returns when `device` has done all that it was told; a CPU has at once."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def product_type(device: torch.device) -> torch.dtype:
    """The number format in which autocast has products computed on `device` now; float32 where there is none."""
    # Some devices (meta) know no autocast, and asking whether it is on is an error there.
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """No autocast on devices of this type; some (meta) know none."""
    available = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if available else nullcontext()


def select_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of the encoder: on a GPU bfloat16 where it is fast, else float16; float32 on a CPU.

    Raises:
        ConfigError: float16 was asked for on a CPU, which is slow with it and has bfloat16 for what it is good for.
    """
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError("training.precision=fp16 needs a CUDA GPU; use fp32, or bf16 to see half precision on a CPU")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
