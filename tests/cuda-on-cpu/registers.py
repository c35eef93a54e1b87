"""Compiles CUDA C by NVIDIA's NVRTC and ptxas, without a card: registers, spills and shared memory of each kernel.

Arguments: files or folders of .cu. Needs the packages nvidia-cuda-{nvrtc,runtime,nvcc,cccl}-cu12. Ends with 1 where a
source does not compile or a matmul spills.
"""

import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile

import nvidia

ARCHITECTURE = "90a"
ROOT = pathlib.Path(list(nvidia.__path__)[0])
NVRTC = ctypes.CDLL(str(ROOT / "cuda_nvrtc/lib/libnvrtc.so.12"))
INCLUDES = [f"--include-path={ROOT / package / 'include'}" for package in ("cuda_runtime", "cuda_cccl", "cuda_nvcc")]


def text_of(program, size, read):
    length = ctypes.c_size_t()
    size(program, ctypes.byref(length))
    text = ctypes.create_string_buffer(length.value)
    read(program, text)
    return text.value


def ptx(source):
    program = ctypes.c_void_p()
    NVRTC.nvrtcCreateProgram(ctypes.byref(program), source, None, 0, None, None)
    options = [option.encode() for option in [f"--gpu-architecture=compute_{ARCHITECTURE}", *INCLUDES]]
    failed = NVRTC.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if failed:
        raise ValueError(text_of(program, NVRTC.nvrtcGetProgramLogSize, NVRTC.nvrtcGetProgramLog).decode())
    return text_of(program, NVRTC.nvrtcGetPTXSize, NVRTC.nvrtcGetPTX)


def measure(path):
    """Units of a cube, registers, bytes spilled."""
    source = path.read_bytes()
    with tempfile.NamedTemporaryFile(suffix=".ptx") as file:
        file.write(ptx(source))
        file.flush()
        command = [ROOT / "cuda_nvcc/bin/ptxas", "-v", f"-arch=sm_{ARCHITECTURE}", file.name, "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr)
    numbers = [r"Used (\d+) registers", r"(\d+) bytes spill stores"]
    registers, spilled = (int(re.search(number, done.stdout + done.stderr).group(1)) for number in numbers)
    units = int(re.search(rb"__launch_bounds__\((\d+)\)", source).group(1))
    return units, registers, spilled


def main():
    paths = [pathlib.Path(argument) for argument in sys.argv[1:]]
    files = [file for path in paths for file in (sorted(path.glob("*.cu")) if path.is_dir() else [path])]
    failed = False
    for file in files:
        try:
            units, registers, spilled = measure(file)
        except ValueError as error:
            failed = True
            print(f"{file.name}: {str(error)[:2000]}")
            continue
        failed |= spilled > 0 and any(matmul in file.name for matmul in ("matmul", "pair"))
        print(f"{registers:4} registers {units:5} units {spilled:5} bytes spilled  {file.name}", flush=True)
    return 1 if failed or not files else 0


if __name__ == "__main__":
    sys.exit(main())
