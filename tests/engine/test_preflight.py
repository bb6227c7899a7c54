"""A11: an output that cannot take the dataset is refused before anything expensive starts."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from synthaug.engine.publish import Output
from synthaug.errors import ConfigError
from tests.crash.job import contents
from tests.engine.publishing import Failing

# A11: what is refused before any work


def test_a11_a_missing_parent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist; create it first"):
        Output(tmp_path / "no" / "out").preflight()
    assert list(tmp_path.iterdir()) == []


def test_a11_a_file_in_the_place(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is a file"):
        Output(tmp_path / "out").preflight()
    with pytest.raises(ConfigError):
        Output(tmp_path / "out" / "below").preflight()
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_a11_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(ConfigError, match=f"belongs to user {mine}"):
        Output(tmp_path).preflight()
    assert list(tmp_path.iterdir()) == []


def test_a11_other_peoples_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"1 entries that are not synthaug's, such as images"):
        Output(tmp_path).preflight()
    assert contents(tmp_path) == {"images/a": b"mine"}


def test_a11_a_real_place_where_nothing_can_be_made() -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError, match="cannot be written"):
        Output(Path("/proc/synthaug-test")).preflight()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["mkdir", "create", "write", "fsync"])
def test_a11_an_unwritable_disk(tmp_path: Path, number: int, call: str) -> None:
    output = Output(tmp_path / "out", Failing(number, lambda c, path: c == call, times=9))
    with pytest.raises(ConfigError, match="cannot be written"):
        output.preflight()


def test_a11_less_space_than_the_run_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bytes and .* files free, 1,000,000,000,000,000,000 bytes needed"):
        Output(tmp_path / "out").preflight(10**18)
    Output(tmp_path / "out").preflight(1)


def test_a11_preflight_leaves_only_the_private_folder_and_may_be_repeated(tmp_path: Path) -> None:
    output = Output(tmp_path / "out")
    output.preflight()
    output.preflight()
    assert sorted(p.name for p in output.root.rglob("*")) == [".synthaug", "tmp"]
