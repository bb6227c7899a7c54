"""Finding out which Mitsuba runs, without dying of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from synthaug.errors import ConfigError
from synthaug.render import variants


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    for cached in (variants.resolve, variants.trial, variants.llvm_library):
        cached.cache_clear()
    yield
    for cached in (variants.resolve, variants.trial, variants.llvm_library):
        cached.cache_clear()


@pytest.fixture
def _present(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "installed", lambda: True)


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(variants, "_TRIAL", code)
    monkeypatch.setattr(variants, "llvm_library", lambda: "/nowhere/libLLVM.so.19")


def test_without_mitsuba_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'synthaug\[render\]'"):
        variants.resolve("auto")


@pytest.mark.usefixtures("_present")
def test_without_llvm_and_cuda_auto_is_scalar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "llvm_library", lambda: "")
    monkeypatch.setattr(variants, "find_library", lambda _: None)
    assert variants.resolve("auto") == "scalar_rgb"
    with pytest.raises(ConfigError, match="libllvm19"):
        variants.resolve("llvm_ad_rgb")


@pytest.mark.usefixtures("_present")
def test_an_abort_in_the_trial_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "import os; os.abort()")
    monkeypatch.setattr(variants, "find_library", lambda _: None)
    assert "status -6" in variants.trial("llvm_ad_rgb")
    assert variants.resolve("auto") == "scalar_rgb"


@pytest.mark.usefixtures("_present")
def test_a_trial_that_says_nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "pass")
    assert variants.trial("llvm_ad_rgb")


@pytest.mark.usefixtures("_present")
def test_a_trial_that_renders_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "import os; print('rendered 8' if 'libLLVM' in os.environ['DRJIT_LIBLLVM_PATH'] else '')")
    monkeypatch.setattr(variants, "find_library", lambda _: None)
    assert variants.resolve("auto") == "llvm_ad_rgb"


def test_a_library_named_by_the_user_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRJIT_LIBLLVM_PATH", "/opt/mine/libLLVM.so")
    assert variants.llvm_library() == "/opt/mine/libLLVM.so"
    assert variants.environment("llvm_ad_rgb") == {"DRJIT_LIBLLVM_PATH": "/opt/mine/libLLVM.so"}
    assert variants.environment("scalar_rgb") == {}


def test_importing_the_room_imports_no_renderer() -> None:
    code = (
        "import sys, synthaug.render.reader as r; d = r.DiceReader(scenes=3); d.describe('scene-000000/view-0');"
        "print(sorted({'mitsuba', 'drjit', 'pyoidn', 'torch', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = done.stdout.strip()
    assert "mitsuba" not in heavy
    assert "torch" not in heavy
    assert "pyoidn" not in heavy


@pytest.mark.slow
def test_a_real_trial_agrees_with_a_real_render() -> None:
    pytest.importorskip("mitsuba", reason="Mitsuba 3 is not installed (pip install 'synthaug[render]')")
    assert variants.trial("scalar_rgb") == ""
    assert variants.resolve("auto") in variants.KNOWN[1:]
