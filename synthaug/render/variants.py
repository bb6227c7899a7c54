"""Which Mitsuba can run here: found out in child processes, because a bad LLVM aborts the process."""

from __future__ import annotations

import glob
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from ctypes.util import find_library
from functools import lru_cache
from typing import Any

from synthaug.errors import ConfigError

AUTO = "auto"
SCALAR = "scalar_rgb"
LLVM = "llvm_ad_rgb"
CUDA = "cuda_ad_rgb"
KNOWN = (AUTO, SCALAR, LLVM, CUDA)
_LIBRARY = "DRJIT_LIBLLVM_PATH"
_LLVM_19 = (
    "/usr/lib/*/libLLVM.so.19*",
    "/usr/lib/*/libLLVM-19.so*",
    "/usr/lib/llvm-19/lib/libLLVM*.so*",
    "/usr/lib64/libLLVM.so.19*",
    "/usr/lib64/llvm19/lib/libLLVM.so.19*",
    "/opt/homebrew/opt/llvm@19/lib/libLLVM*.dylib",
)
_TRIAL = """
import sys
import mitsuba as mi
mi.set_variant(sys.argv[1])
scene = mi.load_dict({'type': 'scene', 'shape': {'type': 'sphere'}, 'light': {'type': 'constant'},
    'sensor': {'type': 'perspective', 'to_world': mi.ScalarTransform4f().look_at([0, 0, 4], [0, 0, 0], [0, 1, 0]),
               'film': {'type': 'hdrfilm', 'width': 8, 'height': 8}}})
image = mi.TensorXf(mi.render(scene, spp=1, integrator=mi.load_dict({'type': 'path'})))
print('rendered', image.shape[0])
"""


def installed() -> bool:
    """Whether Mitsuba can be imported; imports nothing."""
    return importlib.util.find_spec("mitsuba") is not None


def require() -> None:
    """Raises `ConfigError` with the pip line where Mitsuba is not installed."""
    if not installed():
        raise ConfigError("rendering needs Mitsuba 3, which is not installed: pip install 'synthaug[render]'")


@lru_cache(maxsize=8)
def resolve(variant: str) -> str:
    """The variant to render with.

    `auto` is the first of CUDA, LLVM and scalar that renders a picture in a child process, which takes about
    a second for each that is tried; a variant asked for by name is tried likewise.

    Raises:
        ConfigError: Mitsuba is missing, or the variant asked for does not survive its trial.
    """
    require()
    if variant == SCALAR:
        return SCALAR
    if variant != AUTO:
        complaint = trial(variant)
        if complaint:
            raise ConfigError(f"variant {variant} does not run on this machine ({complaint}); use auto or scalar_rgb")
        return variant
    return next((name for name in (CUDA, LLVM) if not trial(name)), SCALAR)


def activate(variant: str) -> Any:
    """Mitsuba with this variant set, in this thread. Takes a resolved variant; the first import costs 0.3 s."""
    require()
    os.environ.update(environment(variant))
    mi: Any = importlib.import_module("mitsuba")
    if mi.variant() != variant:
        mi.set_variant(variant)
        mi.set_log_level(mi.LogLevel.Error)  # else a sampler announces on stderr that it rounds its count up
    return mi


def environment(variant: str) -> Mapping[str, str]:
    """What Dr.Jit must find in the environment before the variant is set."""
    library = llvm_library() if variant == LLVM else ""
    return {_LIBRARY: library} if library else {}


@lru_cache(maxsize=1)
def llvm_library() -> str:
    """Path of LLVM 19, or of what DRJIT_LIBLLVM_PATH names; empty where there is none.

    14 and 15 abort the process, and Dr.Jit picks the first that it meets, so it is told.
    """
    named = os.environ.get(_LIBRARY, "")
    if named:
        return named
    return next((path for pattern in _LLVM_19 for path in sorted(glob.glob(pattern))), "")


@lru_cache(maxsize=8)
def trial(variant: str) -> str:
    """Renders eight pixels in a child process; returns what went wrong, empty where nothing did."""
    if variant == LLVM and not llvm_library():
        return "no LLVM 19 found: install libllvm19, or name the library in DRJIT_LIBLLVM_PATH"
    if variant == CUDA and find_library("cuda") is None:
        return "no CUDA driver found"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL, variant],
            env={**os.environ, **environment(variant)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"its trial could not be run: {type(error).__name__}"
    if done.returncode == 0 and "rendered 8" in done.stdout:
        return ""
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
    return f"its trial ended with status {done.returncode}: {last.strip()[:160]}"
