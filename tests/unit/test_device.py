"""Names of devices and number formats, and what is said about those that this machine lacks."""

from __future__ import annotations

import pytest
import torch

from asr.errors import ConfigError
from asr.model.device import is_out_of_memory, select_device, select_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in [(True, CUDA), (False, CPU)]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert select_device("auto") == expected


def test_cpu_is_always_there() -> None:
    assert select_device("cpu") == CPU


@pytest.mark.parametrize(
    "name", ["gpu", "", "CPU", "cuda:99", "meta", "hpu", "privateuseone", "auto ", "cuda:-1", "cpu\n"]
)
def test_what_this_machine_lacks_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        select_device(name)
    message = str(raised.value)
    shown = name.replace("\n", "\\n")
    lacking, unknown = (f"device '{shown}' is not available: this machine has ", f"device '{shown}': no such device; ")
    assert message.startswith(lacking if name in ("cuda:99", "meta", "hpu", "privateuseone") else unknown)
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [
        ("auto", CPU, torch.float32),
        ("fp32", CPU, torch.float32),
        ("bf16", CPU, torch.bfloat16),
        ("fp32", CUDA, torch.float32),
        ("bf16", CUDA, torch.bfloat16),
        ("fp16", CUDA, torch.float16),
    ],
)
def test_number_format_follows_precision_and_device(precision: str, device: torch.device, dtype: torch.dtype) -> None:
    assert select_dtype(precision, device) == dtype


@pytest.mark.parametrize(("fast_bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_prefers_bfloat16_where_the_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, fast_bf16: bool, dtype: torch.dtype
) -> None:
    asked: list[bool] = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return fast_bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert select_dtype("auto", CUDA) == dtype
    assert asked == [False], "emulated bfloat16 is slower than float32"


def test_float16_on_a_cpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.precision=fp16 needs a CUDA GPU; use fp32"):
        select_dtype("fp16", CPU)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.0 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000 bytes"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a matmul primitive"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_a_lack_of_memory_is_known_in_all_its_forms(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
