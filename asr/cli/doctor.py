"""`asr doctor`: what works on this machine, what does not, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

Status = Literal["ok", "warning", "failure"]

_PACKAGES = ("torch", "torchaudio", "numba", "webdataset", "jiwer", "sentencepiece", "soundfile")
_CODECS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
# The embedded corpus and most speech on users' disks; the others only matter where a corpus has them.
_NEEDED_CODECS = frozenset({"wav", "flac", "opus"})
_FEW_GIGABYTES = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        status: "failure" means that training or recognition cannot work.
        message: what was found.
        mend: what to do about it, "" when nothing needs doing.
    """

    status: Status
    message: str
    mend: str = ""


def doctor() -> None:
    """Check versions, devices, audio codecs and whether training works here; each trouble comes with its remedy.

    The exit code is 1 when something fails that training or recognition needs.

    Example: `asr doctor`
    """
    failures = 0
    for name, check in CHECKS.items():
        for finding in run_check(check):
            failures += finding.status == "failure"
            print(f"{finding.status:8} {name:11} {finding.message}")
            if finding.mend:
                print(f"{'':20} -> {finding.mend}")
    if failures:
        print(f"\n{failures} {'thing fails' if failures == 1 else 'things fail'} that training and recognition need")
        raise typer.Exit(1)


def run_check(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """What `check` finds; a check that breaks is itself a finding."""
    findings = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for finding in check():
                findings.append(finding)
    except Exception as error:  # a broken library may raise anything, and the other checks must still run
        text = " ".join(str(error).split()) or "no message"
        remedy = "if the packages above look right, install them anew: pip install --force-reinstall bigru-asr"
        findings.append(Finding("failure", f"{type(error).__name__}: {text[:200]}", remedy))
    return findings


def check_python() -> Iterator[Finding]:
    """Versions of Python and of this package."""
    from asr import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", f"{version} on {sys.platform}, bigru-asr {__version__}")


def check_packages() -> Iterator[Finding]:
    """Versions of the packages that everything stands on."""
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    yield Finding("ok", ", ".join(found))
    if missing:
        yield Finding("failure", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")


def check_torchaudio() -> Iterator[Finding]:
    """Whether torchaudio, which computes the features, goes with this torch."""
    try:
        import torch
        import torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        # torchaudio compares its CUDA version with torch's; 2.11 is its last release.
        yield Finding(
            "failure",
            f"torch and torchaudio do not load together: {text}",
            'pip install "torch>=2.11,<2.15" "torchaudio>=2.11,<2.12", both for the same CUDA version or both for the CPU',
        )
        return
    spectrogram = torchaudio.functional.spectrogram
    window = torch.hann_window(400)
    power = spectrogram(torch.zeros(1, 1600), 0, window, 512, 160, 400, power=2.0, normalized=False)
    yield Finding("ok", f"loads with torch {torch.__version__}, spectrogram {tuple(power.shape)}")


def check_devices() -> Iterator[Finding]:
    """Where the model can compute."""
    import torch

    from asr.model import matrix_unit

    unit = ", a matrix unit: training.precision=bf16 is faster" if matrix_unit.is_there() else ""
    yield Finding("ok", f"CPU, {torch.get_num_threads()} threads{unit}")
    if not torch.cuda.is_available():
        yield _why_no_gpu(torch.version.cuda)
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if bf16 else "fp16 with loss scaling (no bf16)"
        yield Finding("ok", f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB, {precision}")


def _why_no_gpu(cuda_of_torch: str | None) -> Finding:
    # The driver brings nvidia-smi; without it there is nothing to mend.
    if shutil.which("nvidia-smi") is None:
        return Finding("ok", "no NVIDIA GPU here; the CPU does it")
    built = f"CUDA {cuda_of_torch}" if cuda_of_torch else "the CPU only"
    return Finding(
        "warning",
        f"there is an NVIDIA driver, but torch, built for {built}, cannot use a GPU",
        "see whether `nvidia-smi` lists a GPU, update its driver, or install a build of torch that suits it",
    )


def check_codecs() -> Iterator[Finding]:
    """Which sound files libsndfile can write and read back."""
    import soundfile

    working, broken = [], {}
    for codec, (container, subtype) in _CODECS.items():
        problem = codec_problem(container, subtype)
        if problem:
            broken[codec] = problem
        else:
            working.append(codec)
    yield Finding("ok", f"libsndfile {soundfile.__libsndfile_version__} writes and reads {', '.join(working)}")
    for codec, problem in broken.items():
        status: Status = "failure" if codec in _NEEDED_CODECS else "warning"
        yield Finding(
            status,
            f"{codec}: {problem}",
            "pip install --upgrade --force-reinstall soundfile (brings libsndfile >= 1.2)",
        )


def codec_problem(container: str, subtype: str) -> str:
    """Why a tone does not survive being written and read with this format of libsndfile, "" when it does."""
    import io

    import numpy as np
    import soundfile

    sample_rate, pitch_hz = 16000, 440
    tone = 0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(sample_rate) / sample_rate)
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, tone, sample_rate, format=container, subtype=subtype)
        buffer.seek(0)
        back, back_rate = soundfile.read(buffer)
    except (ValueError, soundfile.LibsndfileError) as error:
        return " ".join(str(error).split())
    # In one second the bin of the spectrum is the frequency in hertz; codecs may add some samples of delay.
    spectrum = np.abs(np.fft.rfft(back, n=sample_rate))
    if back_rate != sample_rate or abs(int(spectrum.argmax()) - pitch_hz) > 1:
        return f"a tone of {pitch_hz} Hz comes back as {int(spectrum.argmax())} Hz at {back_rate} Hz"
    return ""


def check_numba() -> Iterator[Finding]:
    """Whether numba, which compiles the beam search, can compile."""
    import numba
    import numpy as np

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def total(values: np.ndarray) -> float:
        result = 0.0
        for value in values:
            result += value
        return result

    found = total(np.arange(4.0))
    if found != 6.0:
        yield Finding("failure", f"compiled code adds 0+1+2+3 to {found}", "pip install --upgrade numba")
        return
    yield Finding("ok", f"numba {numba.__version__} compiles")


def check_training() -> Iterator[Finding]:
    """Whether one step of a bidirectional GRU under CTC gives finite gradients, on every kind of device here."""
    import torch

    for kind in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
        loss, norm = gru_step(kind)
        finite = torch.tensor([loss, norm]).isfinite().all()
        yield Finding(
            "ok" if finite else "failure",
            f"{kind}: one step of a bidirectional GRU, CTC loss {loss:.2f}, gradient norm {norm:.2f}",
            "" if finite else "reinstall torch for this processor and driver: https://pytorch.org/get-started/locally",
        )


def gru_step(device: str) -> tuple[float, float]:
    """Loss and norm of the gradient of one batch of noise under a small bidirectional GRU with CTC."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 20, 8, generator=generator).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gru, head = nn.GRU(8, 8, bidirectional=True, batch_first=True), nn.Linear(16, 5)
    gru.to(device)
    head.to(device)
    log_probs = head(gru(features)[0]).log_softmax(-1)
    lengths, targets = torch.tensor([20, 15]), torch.tensor([[1, 2, 3], [4, 4, 1]], device=device)
    loss = nn.functional.ctc_loss(log_probs.transpose(0, 1), targets, lengths, torch.tensor([3, 3]))
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.get_total_norm([p.grad for p in (*gru.parameters(), *head.parameters()) if p.grad is not None])
    return loss.item(), norm.item()


def check_disk() -> Iterator[Finding]:
    """Room for shards and checkpoints in the folder where runs go."""
    folder = Path.cwd()
    gigabytes = shutil.disk_usage(folder).free / 1e9
    if gigabytes < _FEW_GIGABYTES:
        yield Finding(
            "warning",
            f"{gigabytes:.1f} GB free in {folder}",
            "make room, or put runs elsewhere with `asr run ... --out DIR`; 100 hours of FLAC take about 6 GB",
        )
    else:
        yield Finding("ok", f"{gigabytes:.0f} GB free in {folder}")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": check_python,
    "packages": check_packages,
    "torchaudio": check_torchaudio,
    "devices": check_devices,
    "codecs": check_codecs,
    "numba": check_numba,
    "training": check_training,
    "disk": check_disk,
}
"""What is checked, in the order of the report; a new check is a function and a line here."""
