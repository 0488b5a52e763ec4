"""llama.cpp's arithmetic, compiled for any x86-64 processor with AVX2.

The llama-server wheel brings a `libggml-cpu` compiled for the machine that built it: a processor without AMX, AVX-VNNI
and bfloat16 ends it with an illegal instruction. The wheel of the converter has sources with the same operators.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LIBRARY = "libggml-cpu.so"
C_FILES = ("ggml-cpu.c", "quants.c", "arch/x86/quants.c")
CPP_FILES = (
    "ggml-cpu.cpp",
    "repack.cpp",
    "hbm.cpp",
    "traits.cpp",
    "amx/amx.cpp",
    "amx/mmq.cpp",
    "binary-ops.cpp",
    "unary-ops.cpp",
    "vec.cpp",
    "ops.cpp",
    "llamafile/sgemm.cpp",
    "arch/x86/repack.cpp",
)
FLAGS = ("-O2", "-fPIC", "-fopenmp", "-march=haswell", "-w")
DEFINES = (
    "NDEBUG",
    "_GNU_SOURCE",
    "GGML_SHARED",
    "GGML_BUILD",
    "GGML_BACKEND_SHARED",
    "GGML_BACKEND_BUILD",
    "GGML_USE_OPENMP",
    "GGML_USE_LLAMAFILE",
    "GGML_USE_CPU_REPACK",
)


def rebuild(sources: Path, libraries: Path) -> int:
    """Put a portable `libggml-cpu` in the place of the one in the folder `libraries`; the compiler's exit code.

    `sources` is the folder `ggml` of a llama.cpp source tree.
    """
    includes = [f"-I{sources / part}" for part in ("include", "src", "src/ggml-cpu")]
    about = [f"-D{name}" for name in DEFINES] + ['-DGGML_VERSION="portable"', '-DGGML_COMMIT="portable"']
    objects = libraries / "objects"
    objects.mkdir()
    jobs = [["gcc", "-std=gnu11", file] for file in C_FILES] + [["g++", "-std=gnu++17", file] for file in CPP_FILES]

    def compiled(job: list[str]) -> int:
        compiler, standard, file = job
        made = objects / f"{file.replace('/', '-')}.o"
        command = [compiler, standard, *FLAGS, *about, *includes, "-c", sources / "src" / "ggml-cpu" / file, "-o", made]
        return subprocess.run([str(word) for word in command], check=False).returncode

    with ThreadPoolExecutor(2) as pool:
        failed = any(pool.map(compiled, jobs))
    return 1 if failed else _link(objects, libraries)


def _link(objects: Path, libraries: Path) -> int:
    names = sorted(libraries.glob(f"{LIBRARY}*"))
    portable = objects / LIBRARY
    command = ["g++", "-shared", "-fopenmp", f"-Wl,-soname,{LIBRARY}.0", "-o", portable, *sorted(objects.glob("*.o"))]
    base = [f"-L{libraries}", "-l:libggml-base.so.0"]
    code = subprocess.run([str(word) for word in [*command, *base]], check=False).returncode
    if code == 0:
        for name in names:
            name.write_bytes(portable.read_bytes())
        for file in objects.iterdir():
            file.unlink()
        objects.rmdir()
    return code
