"""Opening inputs: only below the root, only regular files, through no link, leaving no trace."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from synthaug.errors import InputError, Refusal, Rejected, SecurityError
from synthaug.formats.inputs import InputRoot, natural_key
from tests.formats.test_paths import hostile_paths

SECRET = b"secret"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A root with files, beside it what must never be read."""
    root = tmp_path / "root"
    (root / "images" / "deep").mkdir(parents=True)
    for name in ("images/1.png", "images/2.png", "images/10.PNG", "images/deep/3.png", "images/note.txt"):
        (root / name).write_bytes(name.encode())
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "1.png").write_bytes(SECRET)
    yield root
    for folder, names, _ in os.walk(root):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o755)


def test_reads_heads_sizes_and_digests(tree: Path) -> None:
    root = InputRoot(tree)
    data = b"images/1.png"
    assert root.read("images/1.png") == data
    assert root.head("images/2.png", 6) == b"images"
    assert root.size("images/1.png") == len(data)
    assert root.resolve("images/1.png") == tree / "images/1.png"
    assert root.exists("images/1.png")
    assert not root.exists("images/4.png")
    assert not root.exists("images")
    assert root.is_folder("images")
    assert root.is_folder("")
    assert not root.is_folder("images/1.png")
    # Only what was read whole counts, and it is handed over once.
    assert root.take_digests() == {"images/1.png": hashlib.sha256(data).hexdigest()}
    assert root.take_digests() == {}


def test_listing_is_natural_and_filtered(tree: Path) -> None:
    root = InputRoot(tree)
    assert root.listing("images", [".png"]) == ["images/1.png", "images/2.png", "images/10.PNG", "images/deep/3.png"]
    assert root.listing("images", [".png"], recursive=False) == ["images/1.png", "images/2.png", "images/10.PNG"]
    assert root.listing() == sorted(root.listing(), key=natural_key)
    assert len(root.listing()) == 5
    with pytest.raises(Rejected, match="there is no"):
        root.listing("labels")


def test_missing_root_is_refused_at_first_use_only(tmp_path: Path) -> None:
    root = InputRoot(tmp_path / "none")
    with pytest.raises(InputError, match="expected a folder"):
        root.read("a.png")


def test_another_process_opens_its_own_handle(tree: Path) -> None:
    root = InputRoot(tree)
    root.read("images/1.png")
    sent = bytes(ForkingPickler.dumps(root))
    copy = ForkingPickler.loads(sent)
    assert copy.read("images/2.png") == b"images/2.png"
    assert list(copy.take_digests()) == ["images/2.png"]


def test_handles_do_not_pile_up(tree: Path) -> None:
    root = InputRoot(tree)
    root.read("images/1.png")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        root.read("images/deep/3.png")
        with pytest.raises(Rejected):
            root.read("images/none.png")
        root.listing()
    assert len(os.listdir("/proc/self/fd")) == before
    del root
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_limits(tree: Path) -> None:
    with pytest.raises(Rejected, match="the limit is 3") as caught:
        InputRoot(tree).read("images/1.png", limit=3)
    assert caught.value.reason == "budget"


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    facts = {}
    for path in [folder, *folder.rglob("*")]:
        found = path.lstat()
        facts[str(path)] = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    return facts


def test_a10_read_only_inputs_stay_as_they_are(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(tree.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    tree.chmod(0o555)
    before = snapshot(tree.parent)
    flags: list[int] = []
    true_open = os.open

    def watched(path: str, mode: int, *args: int, **options: int) -> int:
        flags.append(mode)
        return true_open(path, mode, *args, **options)

    monkeypatch.setattr(os, "open", watched)
    root = InputRoot(tree)
    for name in root.listing():
        root.read(name)
        root.head(name)
        root.size(name)
        root.exists(name)
    tree.chmod(0o755)
    tree.chmod(0o555)
    after = snapshot(tree.parent)
    assert len(flags) > 10
    assert not any(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) for mode in flags)
    # The root's own ctime moved with the two chmods above, which proves that the snapshot can see a change.
    assert before.pop(str(tree)) != after.pop(str(tree))
    assert after == before


def test_a15_only_regular_files_are_read(tree: Path) -> None:
    os.mkfifo(tree / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(tree)  # a socket's path is short
        try:
            listener.bind("socket.png")
        finally:
            os.chdir(here)
        (tree / "folder.png").mkdir()
        names = ["fifo.png", "socket.png", "folder.png"]
        with contextlib.suppress(PermissionError):  # only root may make a device
            os.mknod(tree / "device.png", 0o644 | stat.S_IFCHR, os.makedev(1, 5))
            names.append("device.png")
        root = InputRoot(tree)
        begin = time.monotonic()
        for name in names:
            for action in (root.read, root.head, root.size, root.resolve):
                with pytest.raises(Rejected, match="expected a regular file") as caught:
                    action(name)
                assert caught.value.reason == "input"
            assert not root.exists(name)
        assert time.monotonic() - begin < 5.0


def test_f1_paths_that_leave_the_root_are_refused(tree: Path) -> None:
    root = InputRoot(tree)
    corpus = hostile_paths()
    assert len(set(corpus)) >= 220
    for path in corpus:
        for action in (root.read, root.head, root.exists, root.resolve):
            with pytest.raises(SecurityError):
                action(path)


def test_f1_odd_but_honest_names_are_read(tree: Path) -> None:
    names = ["-rf.png", "a b.png", "..a.png", "a..png", "...", "%2e%2e.png", "{x}.png", "*.png", "[1].png", "$HOME.png"]
    names += [
        "a~.png",
        "käse.png",
        "ka\u0308se.png",
        "שלום.png",
        "😀.png",
        "con.png",
        "1:2.png",
        "a;b.png",
        "a'b\".png",
        "x.tar.gz",
    ]
    root = InputRoot(tree)
    for name in names:
        (tree / name).write_bytes(name.encode())
        assert root.read(name) == name.encode()
    assert set(names) <= set(root.listing(recursive=False))


def test_f1_a_name_on_disk_that_no_path_may_have_is_listed_as_an_offence(tree: Path) -> None:
    (tree / "new\nline.png").write_bytes(b"")
    (tree / "back\\slash.png").write_bytes(b"")
    with pytest.raises(InputError, match="2 files") as caught:
        InputRoot(tree).listing(suffixes=[".png"])
    assert "new\\nline.png" in str(caught.value)


def test_f2_links_are_not_followed(tree: Path) -> None:
    outside = tree.parent / "outside"
    (tree / "file.png").symlink_to(outside / "1.png")
    (tree / "inside.png").symlink_to(tree / "images" / "1.png")
    (tree / "images" / "link").symlink_to(outside)
    (tree / "dangling.png").symlink_to(outside / "none")
    root = InputRoot(tree)
    for path in ("file.png", "inside.png", "dangling.png", "images/link/1.png"):
        for action in (root.read, root.head, root.size, root.resolve, root.exists):
            with pytest.raises(SecurityError, match="is a link"):
                action(path)
    with pytest.raises(SecurityError, match="4 of the names below") as caught:
        root.listing()
    told = str(caught.value)
    assert [name in told for name in ("dangling.png", "file.png", "images/link")] == [True] * 3
    assert "inside.png" not in told
    assert "... and 1 more" in told
    assert root.listing(suffixes=(".txt",), recursive=False) == []
    assert root.take_digests() == {}


def test_f2_the_root_may_be_a_link_and_links_may_be_allowed(tree: Path) -> None:
    alias = tree.parent / "alias"
    alias.symlink_to(tree)
    assert InputRoot(alias).read("images/1.png") == b"images/1.png"
    (tree / "more").symlink_to(tree.parent / "outside")
    allowed = InputRoot(tree, allow_links=True)
    assert allowed.read("more/1.png") == SECRET
    assert "more/1.png" in allowed.listing()
    (tree / "loop").symlink_to(tree)
    with pytest.raises(InputError, match="below itself"):
        allowed.listing()


def race(tree: Path, tries: int) -> tuple[int, int]:
    """Swaps a folder for a link and back while it is read; returns honest reads and refusals."""
    outside = tree.parent / "outside"
    link, real, door = tree / "link", tree / "real", tree / "door"
    real.mkdir()
    (real / "1.png").write_bytes(b"honest")
    link.symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for source in (real, link):
                os.rename(source, door)
                time.sleep(0)
                os.rename(door, source)

    root = InputRoot(tree)
    thread = threading.Thread(target=swap)
    thread.start()
    honest = refused = 0
    try:
        for _ in range(tries):
            try:
                assert root.read("door/1.png") == b"honest"
                honest += 1
            except (Refusal, Rejected):
                refused += 1
    finally:
        stop.set()
        thread.join()
    return honest, refused


def test_f2_a_link_swapped_in_after_the_check_is_never_followed(tree: Path) -> None:
    honest, refused = race(tree, 2000)
    assert honest
    assert refused


@pytest.mark.slow
def test_f2_ten_thousand_races(tree: Path) -> None:
    honest, refused = race(tree, 10_000)
    assert honest
    assert refused


def test_f2_a_file_swapped_for_a_fifo_does_not_block(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tree / "images" / "1.png"
    true_stat = os.stat

    def stat_then_swap(path: str, **options: object) -> os.stat_result:
        facts = true_stat(path, **options)  # type: ignore[arg-type]
        if path == "1.png" and not (tree / "done").exists():
            (tree / "done").touch()
            target.unlink()
            os.mkfifo(target)
        return facts

    monkeypatch.setattr(os, "stat", stat_then_swap)
    with pytest.raises(Rejected, match="FIFO"):
        InputRoot(tree).read("images/1.png")
