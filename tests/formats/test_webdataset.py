"""Tar shards: exact round trips, `webdataset`, `datasets` and `tarfile` as oracles, crafted archives."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from synthaug.contracts import DatasetInfo
from synthaug.engine.build import build
from synthaug.errors import InputError, Rejected, SecurityError
from synthaug.formats.webdataset import reader as reading
from synthaug.formats.webdataset import tar
from synthaug.formats.webdataset.reader import WebdatasetReader, split_name
from synthaug.formats.webdataset.writer import WebdatasetWriter, id_of, key_of
from synthaug.labels import PASSES, Labels
from synthaug.sample import Picture, Sample, escape_id
from tests.formats.sets import CATEGORIES, equal_labels, sample, write
from tests.formats.test_huggingface import equal, every_pass


def written(root: Path, samples: Sequence[Sample], shards: int = 2, **settings: Any) -> WebdatasetReader:
    write(WebdatasetWriter(**settings), samples, root, shards, seed=7)
    return WebdatasetReader(root=str(root))


def png(seed: int = 0, size: tuple[int, int] = (40, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(path: Path, *members: tuple[str | tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> Path:
    """A tar as the standard library writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=fmt) as file:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if not isinstance(name, tarfile.TarInfo):
                info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def index(data: bytes, **limits: Any) -> list[tar.Member]:
    return list(tar.members(lambda start, length: data[start : start + length], len(data), "x.tar", **limits))


# Round trips


def test_everything_a_sample_is_comes_back(tmp_path: Path) -> None:
    samples = [every_pass(sample(f"scene/{k}", k, split="val" if k == 4 else "train")) for k in range(5)]
    reader = written(tmp_path, samples)
    assert reader.categories() == CATEGORIES
    assert reader.files() == ("dataset.json",)
    assert sorted(reader.ids()) == sorted(s.id for s in samples)
    for made in samples:
        equal(made, reader.read(made.id))
        told = reader.describe(made.id)
        assert (told.size, set(told.passes), told.classes, told.split) == ((48, 64), set(PASSES), (1, 2, 3), made.split)
        assert told.files[0].startswith(f"{made.split}-00000")
        assert len(reader.digest(told.files[0])) == 64
    assert WebdatasetReader(root=str(tmp_path), split="val").ids() == ("scene/4",)


def test_linear_pictures_and_references_are_held(tmp_path: Path) -> None:
    made = sample("a")
    bright = Picture(np.random.default_rng(0).uniform(0, 40, (48, 64, 3)).astype(np.float32), "linear")
    other = Picture(bright.pixels * np.float32(0.5), "linear")
    assert WebdatasetWriter.holds_linear
    reader = written(tmp_path, [replace(made, image=bright, reference=other)], reference=True)
    found = reader.read("a")
    assert reader.describe("a").space == found.image.space == "linear"
    np.testing.assert_array_equal(found.image.pixels, bright.pixels)
    np.testing.assert_array_equal(found.reference.pixels, other.pixels)
    mixed = replace(made, reference=other)
    with pytest.raises(Rejected, match="differ in colour space"):
        WebdatasetWriter(reference=True).encode(mixed)


def test_stale_passes_empty_labels_and_chosen_passes(tmp_path: Path) -> None:
    made = every_pass(sample("a"))
    stale = written(tmp_path / "stale", [replace(made, stale=frozenset({"albedo"}))])
    assert set(stale.read("a").labels.passes) == set(PASSES) - {"albedo"}
    bare = replace(made, labels=Labels(made.labels.size, CATEGORIES))
    equal(bare, written(tmp_path / "bare", [bare]).read("a"))
    few = written(tmp_path / "few", [made], passes=["depth"]).read("a").labels
    for before, after in zip(made.labels.instances, few.instances, strict=True):
        np.testing.assert_array_equal(made.labels.mask(before), few.mask(after))


def test_depth_as_png_is_within_half_a_millimetre(tmp_path: Path) -> None:
    made = sample("a")
    found = written(tmp_path, [made], depth="png16").read("a").labels.passes["depth"]
    wanted = made.labels.passes["depth"]
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    assert np.nanmax(np.abs(found - wanted)) < 0.000505


def test_bytes_are_the_same_every_time_and_nothing_of_the_machine_is_in_them(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name, [sample("b", 1), sample("a")], shards=1)
    data = (tmp_path / "one" / "train-000000.tar").read_bytes()
    assert data == (tmp_path / "two" / "train-000000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        found = file.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.mode, m.uname, m.gname, m.isreg()) for m in found} == {
        (0, 0, 0, 0o644, "", "", True)
    }
    assert [m.name for m in found[:3]] == ["b.depth.npy", "b.ignore.png", "b.instance.png"]
    assert WebdatasetReader(root=str(tmp_path / "one")).ids() == ("b", "a")


NAMES = (
    "a.b/c.d",
    "x{000..003}",
    "50%",
    "-rf",
    "__meta__/x",
    "a/__b",
    "näme *?[1]",
    "k" * 150,
    f"{'d' * 120}/{'e' * 155}",
)


def test_f5_dots_braces_percent_and_long_names_reach_every_reader(tmp_path: Path) -> None:
    import webdataset

    ids = [escape_id(name) for name in NAMES]
    samples = [sample(name, k) for k, name in enumerate(ids)]
    reader = written(tmp_path, samples, shards=1)
    assert reader.ids() == tuple(ids)
    for made in samples:
        equal(made, reader.read(made.id))
    path = tmp_path / "train-000000.tar"
    with tarfile.open(path) as file:
        assert len(file.getnames()) == 7 * len(ids)
    seen = [row["__key__"] for row in webdataset.WebDataset(str(path), shardshuffle=False)]
    assert seen == [key_of(name) for name in ids]


@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda t: "/" not in t), min_size=1, max_size=3))
def test_keys_are_reversible_and_never_metadata(parts: list[str]) -> None:
    sample_id = escape_id("/".join(parts))
    key = key_of(sample_id)
    assert id_of(key) == sample_id
    assert split_name(f"{key}.instance.png") == (key, "instance.png")


def test_the_writer_names_its_reader(tmp_path: Path) -> None:
    made = sample("a")
    written(tmp_path, [made])
    equal(made, build({**(WebdatasetWriter().reader() or {}), "root": str(tmp_path)}, "read").read("a"))


# Peer libraries


def test_webdataset_reads_equal_arrays(tmp_path: Path) -> None:
    import webdataset

    samples = {s.id: s for s in (every_pass(sample(f"scene/{k}", k)) for k in range(3))}
    written(tmp_path, list(samples.values()), shards=1)
    rows = list(webdataset.WebDataset(str(tmp_path / "train-000000.tar"), shardshuffle=False).decode())
    assert [row["__key__"] for row in rows] == list(samples)
    for row in rows:
        made = samples[row["__key__"]]
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["png"]))), made.image.pixels)
        for name, spec in PASSES.items():
            if spec.kind == "ids":
                stored = np.asarray(Image.open(io.BytesIO(row[f"{name}.png"])))
                np.testing.assert_array_equal(stored > 0 if name == "ignore" else stored, made.labels.passes[name])
            else:
                np.testing.assert_array_equal(row[f"{name}.npy"], made.labels.passes[name])
        objects = row["json"]["objects"]
        assert objects["ids"] == [1, 2, 3, 9]
        assert objects["names"] == ["box", "person", "tür Ω", "box"]
        assert objects["categories"] == [0, 1, 2, 0]


def test_datasets_reads_equal_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    samples = [sample(f"scene/{k}", k) for k in range(3)]
    odd = samples[1].labels
    passes = {**odd.passes, "instance": odd.passes["instance"]}
    facts: dict[str, Any] = {"weather": ["rain", 3, {"x": None}]}
    labels = replace(odd, attributes=facts, instances=odd.instances[:2], passes=passes)
    samples[1] = replace(samples[1], labels=labels, trail=())
    written(tmp_path, samples, shards=1)
    files = str(tmp_path / "train-*.tar")
    loaded = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["__key__"][:] == [s.id for s in samples]
    for row, made in zip(loaded, samples, strict=True):
        np.testing.assert_array_equal(np.array(row["png"]), made.image.pixels)
        np.testing.assert_array_equal(np.array(row["instance.png"]), made.labels.passes["instance"])
        np.testing.assert_array_equal(np.array(row["depth.npy"], np.float32), made.labels.passes["depth"])
        assert row["json"]["objects"]["ids"] == [i.id for i in made.labels.instances]


@given(st.lists(st.tuples(st.text("abc/_~.", min_size=1, max_size=130), st.binary(max_size=1200)), max_size=6))
def test_tarfile_reads_what_we_write(files: list[tuple[str, bytes]]) -> None:
    files = [(f"x{name}".rstrip("/"), data) for name, data in files]
    data = tar.write(files)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
        found = [(m.name, m.size, m.offset_data) for m in file.getmembers()]
        bodies = [file.extractfile(m).read() for m in file.getmembers()]  # type: ignore[union-attr]
    assert [(name.rstrip("/"), size) for name, size, _ in found] == [(name, len(body)) for name, body in files]
    assert bodies == [body for _, body in files]


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_we_read_what_tarfile_writes(tmp_path: Path, fmt: int) -> None:
    long = "d" * 90 + "/" + "e" * 95
    names = ["a.png", "./b/c.png", long + ".png"] + ([] if fmt == tarfile.USTAR_FORMAT else ["ü.png", "f" * 240])
    folder = tarfile.TarInfo("b")
    folder.type = tarfile.DIRTYPE
    data = archive(tmp_path / "x.tar", (folder, b""), *((n, n.encode()) for n in names), fmt=fmt).read_bytes()
    found = index(data)
    assert [m.name for m in found] == [name.removeprefix("./") for name in names]
    assert [data[m.start : m.start + m.size] for m in found] == [name.encode() for name in names]


# Foreign archives


def test_foreign_archive_by_habit_with_members_that_stand_apart(tmp_path: Path) -> None:
    told = json.dumps({"objects": {"bbox": [[5, 6, 10, 8]], "category": ["cat"]}}).encode()
    many = json.dumps([{"bbox": [1, 2, 3, 4], "label": "dog"}]).encode()
    path = archive(
        tmp_path / "train-0003.tar", ("a.jpg.txt", b"hi"), ("a.json", told), ("b/c.PNG", png(1)), ("a.png", png(0)),
        ("b/c.json", many), (".hidden.png", b"?"), ("__meta__/x.png", b"?"), ("noext", b"?"),
    )  # fmt: skip
    reader = WebdatasetReader(root=str(tmp_path))
    assert reader.ids() == ("a", "b/c")
    assert [c.name for c in reader.categories()] == ["cat", "dog"]
    assert reader.read("a").labels.instances[0].box == (5.0, 6.0, 15.0, 14.0)
    assert reader.read("b/c").labels.instances[0].class_id == 2
    assert reader.describe("a").files == (path.name,)
    assert reader.describe("a").size == (40, 60)
    assert reader.files() == ()


def test_our_archive_alone_is_read_by_habit(tmp_path: Path) -> None:
    made = sample("a")
    written(tmp_path, [made], shards=1)
    (tmp_path / "dataset.json").unlink()
    found = WebdatasetReader(root=str(tmp_path)).read("a").labels
    assert [c.name for c in found.categories] == [c.name for c in CATEGORIES]
    for before, after in zip(made.labels.instances, found.instances, strict=True):
        np.testing.assert_array_equal(made.labels.mask(before), found.mask(after))
        assert after.attributes == {"source_id": before.id}


def test_keys_without_a_picture_several_pictures_and_bad_json(tmp_path: Path) -> None:
    archive(tmp_path / "x.tar", ("a.png", png()), ("b.txt", b"?"))
    with pytest.raises(InputError, match=r"1 keys have no picture[\s\S]*x.tar: b \(txt\)"):
        WebdatasetReader(root=str(tmp_path)).ids()
    lenient = WebdatasetReader(root=str(tmp_path), dangling="ignore", unlabelled=True)
    assert lenient.ids() == ("a",)
    assert lenient.notes()["keys without a picture"] == 1
    archive(tmp_path / "x.tar", ("a.left.png", png()), ("a.right.png", png(1)), ("a.json", b'{"a": NaN}'))
    with pytest.raises(InputError, match=r"several pictures: left.png, right.png"):
        WebdatasetReader(root=str(tmp_path)).ids()
    chosen = WebdatasetReader(root=str(tmp_path), image="right.png")
    with pytest.raises(Rejected, match="NaN"):
        chosen.read("a")


def test_e2_duplicate_members_and_samples_are_refused(tmp_path: Path) -> None:
    archive(tmp_path / "x.tar", ("a.png", png()), ("b.png", png()), ("a.PNG", png(1)))
    with pytest.raises(InputError, match=r"'a.PNG' occurs twice"):
        WebdatasetReader(root=str(tmp_path)).ids()
    for name in ("x", "y"):
        archive(tmp_path / f"{name}.tar", ("a.png", png()))
    with pytest.raises(InputError, match=r"a: x.tar and y.tar"):
        WebdatasetReader(root=str(tmp_path)).ids()


def test_lost_and_strange_shards_of_our_own_are_refused(tmp_path: Path) -> None:
    written(tmp_path, [sample("a"), sample("b", 1)])
    (tmp_path / ".synthaug" / "tmp").mkdir(parents=True)
    (tmp_path / ".synthaug" / "tmp" / "train-000009.tar").write_bytes(b"work in progress")
    assert len(WebdatasetReader(root=str(tmp_path)).ids()) == 2
    (tmp_path / "train-000001.tar").rename(tmp_path / "train-000007.tar")
    with pytest.raises(InputError, match=r"1 missing, 1 not listed[\s\S]*000001[\s\S]*000007"):
        WebdatasetReader(root=str(tmp_path)).ids()


# F6: crafted archives


@pytest.mark.security
@pytest.mark.parametrize("suffix", sorted(reading.PICKLES))
def test_f6_pickle_canary_is_refused_and_never_run(tmp_path: Path, suffix: str) -> None:
    canary = tmp_path / "canary"
    payload = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    archive(tmp_path / "set" / "x.tar", ("a.png", png()), (f"a.extra.{suffix.upper()}", payload))
    with pytest.raises(SecurityError, match="is a pickle"):
        WebdatasetReader(root=str(tmp_path / "set")).read("a")
    assert not canary.exists()
    assert not [name for name in WebdatasetWriter().encode(every_pass(sample("a"))).members if name.endswith(suffix)]


@pytest.mark.security
@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"V"]
)
def test_f6_links_devices_and_odd_types_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    archive(tmp_path / "x.tar", (info, b""))
    with pytest.raises(SecurityError, match="expected regular files"):
        WebdatasetReader(root=str(tmp_path)).ids()


@pytest.mark.security
@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "a/../../b.png", "a\\b.png", "c:/a.png", "a\nb.png", "pipe:x.png", "~/a.png"]
)
def test_f6_names_that_leave_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive(tmp_path / "x.tar", (name, png()))
    with pytest.raises(SecurityError, match="expected plain relative names"):
        WebdatasetReader(root=str(tmp_path)).ids()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


@pytest.mark.security
def test_f6_packed_truncated_concatenated_and_lying_archives(tmp_path: Path) -> None:
    good = tar.write([("a.png", png())])
    path = tmp_path / "x.tar"
    cases = {
        gzip.compress(good): "packed with gzip",
        good[:-1024]: "without its end mark",
        good[:700]: "reaches beyond the end",
        good[:100]: "without its end mark",
        good + good: "data behind the end mark",
        b"\xff" * 2048: "no tar archive",
        good[:124] + b"77777777777\0" + good[136:]: "damaged one: wrong checksum",
        b"": "without its end mark",
    }
    for data, reason in cases.items():
        path.write_bytes(data)
        with pytest.raises(InputError, match=reason):
            WebdatasetReader(root=str(tmp_path)).ids()


def resized(block: bytes, size: bytes) -> bytes:
    """A header with another size and a right checksum."""
    head = block[:124] + size + block[136:148] + b" " * 8 + block[156:512]
    return head[:148] + b"%06o\0 " % sum(head) + head[156:] + block[512:]


@pytest.mark.security
def test_f6_sizes_beyond_the_file_and_below_zero() -> None:
    good = tar.write([("a.png", b"x" * 100), ("b.png", b"y")])
    with pytest.raises(InputError, match="reaches beyond the end"):
        index(resized(good, b"77777777777\0"), max_size=2**40)
    with pytest.raises(InputError, match="the limit is"):
        index(resized(good, b"77777777777\0"))
    with pytest.raises(InputError, match="negative number"):
        index(resized(good, b"\xff" * 12))
    with pytest.raises(InputError, match="not octal"):
        index(resized(good, b"-0000000001\0"))
    assert index(resized(good, b"\x80" + b"\0" * 10 + b"\x64"))[0].size == 100
    with pytest.raises(InputError, match="the limit is 50"):
        index(good, max_size=50)


@pytest.mark.security
@pytest.mark.parametrize(
    ("record", "error"),
    [
        (b"30 linkpath=/etc/passwd", SecurityError),
        (b"27 GNU.sparse.major=1\n", SecurityError),
        (b"99999 path=x\n", InputError),
        (b"9 path=x\n" * 3 + b"0 path=x\n", InputError),
        (b"11 size=-1\n", InputError),
        (b"garbage", InputError),
    ],
)
def test_f6_pax_headers_that_lie(record: bytes, error: type[Exception]) -> None:
    record = record if record.endswith(b"\n") else record + b"\n"
    if record.startswith((b"30", b"27")):
        record = b"%d %s" % (len(record), record.split(b" ", 1)[1])
    head = tar._block(b"x", len(record), b"x")
    data = head + record.ljust(512, b"\0") + tar.write([("a.png", b"x")])
    with pytest.raises(error):
        index(data)


@pytest.mark.security
def test_f6_too_many_members_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MAX_MEMBERS", 50)
    data = tar.write([(f"{k}.png", b"") for k in range(51)])
    with pytest.raises(InputError, match="more than 50 members"):
        index(data)
    endless = tar._block(b"a", 0, b"x")
    with pytest.raises(InputError, match="more than 50 members"):
        list(tar.members(lambda start, length: endless[:length], 2**40, "x.tar"))


@pytest.mark.security
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=8), st.booleans())
def test_f6_damaged_headers_end_in_a_refusal_or_in_plain_members(changes: list[tuple[int, int]], mend: bool) -> None:
    data = bytearray(tar.write([("a" * 120 + ".png", b"x" * 600), ("b.json", b"{}")]))
    for at, value in changes:
        data[at % len(data)] = value
    for block in range(0, len(data), 512) if mend else ():
        data[block + 148 : block + 156] = b" " * 8
        data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    try:
        found = index(bytes(data))
    except (InputError, SecurityError):
        return
    assert all(0 < m.start <= m.start + m.size <= len(data) for m in found)


def test_archive_that_changes_under_the_reader_is_noticed(tmp_path: Path) -> None:
    archive(tmp_path / "x.tar", ("a.png", png()))
    reader = WebdatasetReader(root=str(tmp_path), unlabelled=True)
    assert reader.ids() == ("a",)
    archive(tmp_path / "x.tar", ("a.png", png(1)))
    with pytest.raises(Rejected, match="changed since it was indexed"):
        reader.read("a")


def test_empty_shard_leaves_nothing_and_the_card_lists_what_there_is(tmp_path: Path) -> None:
    writer = WebdatasetWriter()
    writer.open(DatasetInfo(CATEGORIES, ("train",), (), {"seed": 3}))
    empty = writer.close_shard("000000")
    assert empty.files == ()
    writer.add(writer.encode(sample("a")))
    full = writer.close_shard("000001")
    told = json.loads(writer.finalise([empty, full])[0].data)
    assert told["shards"] == [{"file": "train-000001.tar", "split": "train", "samples": 1}]
    assert told["card"] == {"seed": 3}


def test_equal_labels_helper_sees_a_difference() -> None:
    made = sample("a").labels
    with pytest.raises(AssertionError):
        equal_labels(made, replace(made, instances=made.instances[:3]))
