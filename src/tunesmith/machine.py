"""What this machine has and is fast at, as values with the reason beside them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith import files

if TYPE_CHECKING:
    import torch

Route = Literal["float32", "float32-onednn", "bfloat16"]
ROUTES: tuple[Route, ...] = ("float32", "float32-onednn", "bfloat16")
ACCURATE: Mapping[str, float] = {"float32": 1e-5, "float32-onednn": 1e-5, "bfloat16": 1e-2}
"""Relative error (Frobenius) of a product that a route may have: what rounding of its type explains, with room."""
PAYS = 1.2  # how much faster a less exact route has to be before it is worth taking


@dataclass(frozen=True)
class Chosen:
    """A value that was chosen for the person, and why."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True)
class Machine:
    """Cores, memory and disk. Looking costs nothing; nothing is measured here."""

    n_cores: int
    memory_bytes: int
    free_disk_bytes: int
    gpu: str = ""
    gpu_memory_bytes: int = 0

    @classmethod
    def look(cls, folder: Path = Path()) -> Machine:
        """This machine; `folder` is where files will be written."""
        return cls(count_cores(), _memory_bytes(), files.free_bytes(folder.resolve()), *_gpu())

    @property
    def device(self) -> str:
        """Where the products are computed: `cuda` or `cpu`."""
        return "cuda" if self.gpu else "cpu"

    @property
    def learning_memory_bytes(self) -> int:
        """Memory of the device that learns."""
        return self.gpu_memory_bytes if self.gpu else self.memory_bytes


@dataclass(frozen=True)
class Speed:
    """Measured matrix products, GFLOP/s and relative error by route; and bytes a second that go through memory."""

    gflops: Mapping[str, float]
    errors: Mapping[str, float]
    bytes_per_second: float

    def accurate(self, route: str) -> bool:
        """Whether the route computes what its type promises here."""
        return self.errors.get(route, float("inf")) <= ACCURATE[route]

    def in_words(self) -> str:
        """All routes with their speed: `float32 250, bfloat16 148 GFLOP/s`."""
        told = [
            f"{route} {self.gflops[route]:.0f}" + ("" if self.accurate(route) else " (wrong)") for route in self.gflops
        ]
        return ", ".join(told) + " GFLOP/s"


def choose_route(speed: Speed, asked: str = "auto") -> Chosen:
    """The type of the matrix products, and by which library: the fastest that is accurate and pays.

    `asked` is `auto`, `float32` or `bfloat16`; a type that is asked for is kept, only its library is chosen.
    """
    allowed = [route for route in ROUTES if asked in ("auto", "float32" if route.startswith("float32") else route)]
    sound = [route for route in allowed if route in speed.gflops and speed.accurate(route)]
    if not sound:
        return Chosen("dtype", allowed[0], f"asked for; measured here: {speed.in_words()}")
    best = sound[0]
    for route in sound[1:]:
        if speed.gflops[route] >= PAYS * speed.gflops[best]:
            best = route
    why = "measured here" if asked == "auto" else "asked for; measured here"
    return Chosen("dtype", best, f"{why}: {speed.in_words()}")


def measure(machine: Machine) -> Speed:
    """How fast and how exact this machine multiplies matrices, and moves them; a second, kept in the user's cache."""
    import torch

    kept = _cache_file(machine, torch.__version__)
    try:
        return Speed(**json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    before, began = _others_seconds(), time.monotonic()
    speed = _measure(machine.device)
    beside = _others_seconds() - before > (time.monotonic() - began) * machine.n_cores / 2
    if not beside and not is_busy(machine):  # what is measured beside other work is not kept
        with contextlib.suppress(OSError):  # a home that cannot be written to only costs the measurement again
            files.write_json(kept, asdict(speed))
    return speed


def _measure(device: str) -> Speed:
    """Products of square matrices, the routes in turn, best of many, so that other work on the machine hits all alike.

    On a CPU the routes are compared on one thread, which is seldom pushed aside; all threads together give the scale.
    """
    import torch

    size = 4096 if device == "cuda" else 512
    random = torch.Generator().manual_seed(0)
    pair = torch.randn(size, size, generator=random), torch.randn(size, size, generator=random)
    exact = pair[0][:64].double() @ pair[1].double().T
    precision, n_threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        seconds, errors = _routes(pair, exact, device)
        torch.set_num_threads(n_threads)
        scale = 1.0
        if device == "cpu" and n_threads > 1:
            torch.set_float32_matmul_precision("highest")
            together = min(_one(*pair, device, torch.float32)[0] for _ in range(20))
            scale = min(max(1.0, seconds["float32"] / together), float(n_threads))
    finally:
        torch.set_num_threads(n_threads)
        torch.set_float32_matmul_precision(precision)
    gflops: dict[str, float] = {route: round(scale * 2 * size**3 / seconds[route] / 1e9, 1) for route in ROUTES}
    return Speed(gflops, errors, _bytes_per_second(device))


def _routes(
    pair: tuple[torch.Tensor, torch.Tensor], exact: torch.Tensor, device: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Best seconds, and relative error, of each route."""
    import torch

    seconds: dict[str, float] = dict.fromkeys(ROUTES, float("inf"))
    errors: dict[str, float] = {}
    for _ in range(20):
        for route in ROUTES:
            torch.set_float32_matmul_precision("medium" if route == "float32-onednn" else "highest")
            took, product = _one(*pair, device, torch.bfloat16 if route == "bfloat16" else torch.float32)
            seconds[route] = min(seconds[route], took)
            if route not in errors:
                errors[route] = float((product[:64].double() - exact).norm() / exact.norm())
    return seconds, errors


def _one(left: torch.Tensor, right: torch.Tensor, device: str, dtype: torch.dtype) -> tuple[float, torch.Tensor]:
    import torch

    x, y = left.to(device, dtype), right.to(device, dtype)
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    product = torch.nn.functional.linear(x, y)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, product.float().cpu()


def _bytes_per_second(device: str) -> float:
    """Of a product element by element, which reads two numbers and writes one into new memory, as layers do."""
    import torch

    n = 1 << 24  # 64 MiB each: more than the caches hold
    left, right = torch.ones(n, device=device), torch.ones(n, device=device)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        product = left * right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
        del product
    return round(3 * 4 * n / best)


def _cache_file(machine: Machine, torch_version: str) -> Path:
    from platformdirs import user_cache_path

    said = f"{fingerprint(machine)}|{torch_version}|4"
    return user_cache_path("tunesmith") / "speed" / f"{hashlib.sha256(said.encode()).hexdigest()[:16]}.json"


def fingerprint(machine: Machine) -> str:
    """What makes two machines equally fast: processor with its abilities, cores and GPU."""
    return f"{_cpu_model()}|{machine.n_cores}|{machine.gpu}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines if ":" in line}
    return f"{told.get('model name', '')} {told.get('model', '')} {told.get('flags', '')}"


def count_cores() -> int:
    """Cores that this process may use; where the system does not say which, all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_busy(machine: Machine) -> bool:
    """Whether other work takes half of the cores; False where the system does not say."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] >= machine.n_cores / 2


def _others_seconds() -> float:
    """Processor seconds that all other processes have used so far; 0 where the system does not tell.

    `is_busy` averages over a minute, and does not see what began a moment ago.
    """
    try:
        ticks = [int(one) for one in Path("/proc/stat").read_text(encoding="ascii").split()[1:9]]
        a_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return 0.0
    idle, waiting = ticks[3:5]
    own = os.times()
    return (sum(ticks) - idle - waiting) / a_second - own.user - own.system


def peak_memory_bytes(pid: int | None = None) -> int | None:
    """The most memory that a process has held, this one when left out; None where the system does not tell."""
    try:
        told = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB$", told, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def processes_with(argument: str) -> list[int]:
    """The processes that were started with this argument; none where the system does not tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours to look at
            if argument in path.read_text(encoding="utf-8", errors="replace").split("\0"):
                found.append(int(path.parent.name))
    return found


def forget_peak_memory() -> bool:
    """From now on the peak of this process is counted anew, from what is in use; whether the system can do that."""
    gc.collect()
    library = glibc()
    if library is not None:
        library.malloc_trim(0)  # what earlier work has freed and the process has kept
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def glibc() -> ctypes.CDLL | None:
    """The C library of most Linux systems; None where it is another."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _memory_bytes() -> int:
    """Of the machine, or of the control group this process lives in where that is less."""
    whole = _installed_bytes()
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def _installed_bytes() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _told_by_windows()


def _told_by_windows() -> int:
    import ctypes

    class MemoryStatusEx(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load_percent", ctypes.c_uint32),
            ("total_bytes", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 6),
        )

    status = MemoryStatusEx(ctypes.sizeof(MemoryStatusEx))
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined,unused-ignore]
        raise OSError("GlobalMemoryStatusEx failed")
    return int(status.total_bytes)


def _gpu() -> tuple[str, int]:
    """Name and memory of the first GPU. torch, slow to import, is asked only where a driver left its device file."""
    if not any(Path(one).exists() for one in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return "", 0
    try:
        import torch

        if not torch.cuda.is_available():
            return "", 0
        found = torch.cuda.get_device_properties(0)
    except (ImportError, RuntimeError):
        return "", 0
    return str(found.name), int(found.total_memory)
