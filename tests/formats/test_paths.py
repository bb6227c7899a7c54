"""Which paths are followed, and the order of names."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from synthaug.errors import Rejected, SecurityError
from synthaug.formats.inputs import InputRoot
from synthaug.formats.paths import check_path, fault_of, natural_key


def hostile_paths() -> list[str]:
    wholes = [
        "",
        ".",
        "/",
        "//",
        "./",
        "..",
        "../",
        "~",
        "~root",
        "~/x.png",
        "\\",
        "a\\b.png",
        "\\\\host\\share\\x.png",
    ]
    wholes += ["C:", "C:\\x.png", "c:x.png", "C:/x.png", "d:/a/b.png", "pipe:cat /etc/passwd", "pipe:x", "PIPE:x"]
    schemes = ["file", "http", "https", "s3", "gs", "data", "ftp", "git+ssh", "javascript", "x-y.z"]
    wholes += [f"{s}://host/x.png" for s in schemes] + [f"{s}:x.png" for s in schemes]
    wholes += [f"a{chr(c)}b.png" for c in (*range(32), *range(127, 160))]
    climbs = [
        "../x.png",
        "../../x.png",
        "a/../../x.png",
        "a/../x.png",
        "a/..",
        "./../x.png",
        "a//../x.png",
        "a/./../x.png",
    ]
    wholes += (
        climbs + ["../" * n + "etc/passwd" for n in range(3, 60)] + ["a/" * n + "../" * (n + 1) for n in range(1, 60)]
    )
    wholes += [
        f"/{name}" for name in ("etc/passwd", "dev/zero", "proc/self/environ", "x.png", "./x.png", "root/.ssh/id")
    ]
    wholes += ["\ud800.png", "a/\udfff"]
    return wholes


def test_natural_key_is_a_total_order() -> None:
    names = ["a10b", "a2b", "a1b", "a01b", "a", "b", "10", "9", "a2", "1" * 5000]
    for seed in range(5):
        shuffled = random.Random(seed).sample(names, len(names))
        assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)
    assert sorted(["f10", "f2", "f1"], key=natural_key) == ["f1", "f2", "f10"]
    assert natural_key("a1") != natural_key("a01")


def test_f1_every_hostile_path_has_a_fault_and_a_message_without_control_characters() -> None:
    for path in hostile_paths():
        assert fault_of(path)
        with pytest.raises(SecurityError) as caught:
            check_path(path)
        assert all(c.isprintable() for c in str(caught.value))
    assert check_path("a//./b/c.png") == ("a", "b", "c.png")


def test_f4_names_of_every_length(tmp_path: Path) -> None:
    root = InputRoot(tmp_path)
    for length in (*range(1, 300), 1000, 4095, 4096, 4097, 10_000):
        name = "n" * length
        if length <= 255:
            (tmp_path / name).write_bytes(name.encode())
            assert root.read(name) == name.encode()
        else:
            with pytest.raises(SecurityError, match="more than a file system takes"):
                root.read(name)
    with pytest.raises(SecurityError, match="more than a file system takes"):
        root.read("ä" * 128)
    # Deep, and below the limit of a path: refused by no rule, merely not there.
    with pytest.raises(Rejected) as caught:
        root.read("d/" * 2000 + "x")
    assert caught.value.reason == "missing"
