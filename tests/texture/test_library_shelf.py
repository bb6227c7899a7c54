"""Adding to a library: twice is once, a kill at any step loses nothing, several may add, nothing else is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from synthaug import seeds
from synthaug.engine.lock import RunLock
from synthaug.engine.publish import FileSystem
from synthaug.engine.shelf import Shelf
from synthaug.errors import ConfigError, InputError, Refusal
from synthaug.texture.entry import Entry, from_json, object_name, sidecar_name
from synthaug.texture.importing import About, made
from synthaug.texture.library import INDEX, Library, identity
from synthaug.texture.materials import Materials
from tests.texture.pictures import noise, texture

PROJECT = Path(__file__).resolve().parents[2]
ALL = [texture(i, ("wood", "metal", "stone")[i % 3]) for i in range(6)]


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test may take it for an error."""


class Dying(FileSystem):
    """A disk that works for some calls and then never again."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def step(self, call: str, path: str) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1


def facts(library: Library) -> dict[str, Entry]:
    return {entry.id: entry for entry in library.entries}


def files(root: Path) -> dict[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file() and ".synthaug" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    outcomes = Shelf(tmp_path / "lib").add(ALL)
    assert [o.result for o in outcomes] == ["added"] * 6
    library = Library.open(tmp_path / "lib")
    assert facts(library) == {t.entry.id: t.entry for t in ALL}
    assert (library.read(ALL[0].entry) == noise(0)).all()
    assert {path.split("/")[0] for path in files(tmp_path / "lib")} == {"entries", "objects", INDEX, "library.json"}


def test_an_entry_survives_json() -> None:
    entry = texture(1, seed=7, method="noise", parameters={"patch": 0.5, "more": [1, None]}, notes=("x",)).entry
    assert from_json(json.loads(json.dumps(entry.to_json())), "here") == entry


def test_adding_twice_changes_no_byte(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(ALL)
    before = {path: os.stat(tmp_path / path).st_mtime_ns for path in files(tmp_path)}
    again = Shelf(tmp_path).add(ALL)
    assert [o.result for o in again] == ["there"] * 6
    assert {path: os.stat(tmp_path / path).st_mtime_ns for path in files(tmp_path)} == before


def test_facts_are_kept_or_updated(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add([texture(1)])
    other = made("better", {"albedo": noise(1)}, About("MIT", material="oak"))
    assert shelf.add([other])[0].result == "there"
    assert shelf.library().entries[0].material == "wood"
    assert shelf.add([other], existing="update")[0].result == "updated"
    assert shelf.library().entries == (other.entry,)


def test_what_looks_the_same_is_left_out_or_kept(tmp_path: Path) -> None:
    like = noise(1)
    like[0, 0] ^= 1
    near = made("again", {"albedo": like}, About("MIT"))
    shelf = Shelf(tmp_path)
    first, second = shelf.add([texture(1), near])
    assert (first.result, second.result, second.other) == ("added", "near", first.entry)
    assert len(shelf.library()) == 1
    assert not (tmp_path / object_name(near.entry.maps["albedo"])).exists()
    assert shelf.add([near], near="keep")[0].result == "kept near"
    assert len(shelf.library()) == 2


def steps_of(root: Path) -> int:
    counting = Dying(10**9)
    Shelf(root, counting).add(ALL[:2])
    return 10**9 - counting.left


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_step_leaves_a_library_that_can_be_read_and_finished(tmp_path: Path, stride: int) -> None:
    whole = tmp_path / "whole"
    total = steps_of(whole)
    assert total > 30
    expected = {path: data for path, data in files(whole).items() if path != INDEX}
    for step in range(0, total, stride):
        root = tmp_path / str(step)
        with pytest.raises(Killed):
            Shelf(root, Dying(step)).add(ALL[:2])
        if (root / "library.json").exists():
            found = Library.open(root)
            for entry in found.entries:
                found.read(entry)
        Shelf(root).add(ALL[:2])
        assert {path: data for path, data in files(root).items() if path != INDEX} == expected, step
        assert facts(Library.open(root)) == {t.entry.id: t.entry for t in ALL[:2]}


def test_the_index_is_only_for_speed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(ALL)
    expected = facts(shelf.library())
    for damage in (b"", b"PAR1 nonsense PAR1"):
        (tmp_path / INDEX).write_bytes(damage)
        assert facts(Library.open(tmp_path)) == expected
    (tmp_path / INDEX).unlink()
    assert facts(Library.open(tmp_path)) == expected
    assert shelf.rebuild() == 6
    assert (tmp_path / INDEX).exists()


def test_the_index_is_read_and_does_not_outlive_its_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Shelf(tmp_path).add(ALL)
    path = tmp_path / sidecar_name(ALL[0].entry.id)
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "material": "changed_by_hand"}))
    (tmp_path / sidecar_name(ALL[1].entry.id)).unlink()
    library = Library.open(tmp_path)
    assert library.get(ALL[0].entry.id).material == "changed_by_hand"
    assert len(library) == 5
    from synthaug.texture import library as module

    opened: list[str] = []
    monkeypatch.setattr(module, "from_json", lambda found, name: opened.append(name) or from_json(found, name))
    Library.open(tmp_path)
    assert len(opened) == 1  # the changed one; the rest comes from the index


def test_other_programs_can_read_the_index(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    Shelf(tmp_path).add(ALL)
    table = pq.read_table(tmp_path / INDEX, filters=[("material", "=", "metal")])
    assert sorted(table["id"].to_pylist()) == sorted(t.entry.id for t in ALL if t.entry.material == "metal")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update(format=2), lambda t: t.update(licence=" "), lambda t: t.update(metres=0),
        lambda t: t.update(seam="x"), lambda t: t.pop("tags"), lambda t: t.update(extra=1),
        lambda t: t["maps"].update(albedo="../../etc/passwd"), lambda t: t["maps"].update(albedo="0" * 64),
        lambda t: t.update(maps={}),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_named_with_the_way_out(tmp_path: Path, change: object) -> None:
    Shelf(tmp_path).add(ALL[:1])
    path = tmp_path / sidecar_name(ALL[0].entry.id)
    told = json.loads(path.read_text())
    change(told)  # type: ignore[operator]
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"(?s)" + path.name + ".*import the texture again"):
        Library.open(tmp_path)


def test_a_damaged_map_is_noticed_and_put_back_by_the_same_import(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(ALL[:1])
    path = tmp_path / object_name(ALL[0].entry.maps["albedo"])
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    with pytest.raises(InputError, match=r"not those that were imported. Import the texture again"):
        shelf.library().read(ALL[0].entry)
    assert shelf.add(ALL[:1])[0].result == "there"
    assert path.read_bytes() == good


def test_folders_of_others_are_not_filled(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="no texture library"):
        Shelf(tmp_path)
    with pytest.raises(ConfigError, match="no texture library; make one: synthaug texture import"):
        Library.open(tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]


ADDER = """
import sys
from pathlib import Path
from synthaug.engine.shelf import Shelf
from tests.texture.pictures import texture
for i in range(int(sys.argv[2]), int(sys.argv[3])):
    Shelf(Path(sys.argv[1])).add([texture(i)])
"""


def test_two_processes_may_add_at_once(tmp_path: Path) -> None:
    ranges = [("0", "3"), ("2", "5")]
    running = [
        subprocess.Popen([sys.executable, "-c", ADDER, str(tmp_path), *r], cwd=PROJECT, stderr=subprocess.PIPE)
        for r in ranges
    ]
    for process in running:
        assert process.wait(120) == 0, process.stderr.read().decode() if process.stderr else ""
        if process.stderr:
            process.stderr.close()
    assert facts(Library.open(tmp_path)) == {t.entry.id: t.entry for t in map(texture, range(5))}


def test_patience_ends(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, patience=0)
    with RunLock(tmp_path), pytest.raises(Refusal, match="another process is adding"):
        shelf.add(ALL[:1])


def drawn(library: Library, materials: Materials, name: str = "car", count: int = 400) -> list[str]:
    entries = [library.draw(seeds.generator(1, str(i), 0, "retexture"), materials, name) for i in range(count)]
    return [entry.id for entry in entries if entry]


def test_draws_depend_on_what_is_there_and_not_on_the_order_of_import(tmp_path: Path) -> None:
    materials = Materials.parse({"car": {"wood": 3, "metal": 1}})
    Shelf(tmp_path / "a").add(ALL)
    for item in reversed(ALL):
        Shelf(tmp_path / "b").add([item])
    one, other = Library.open(tmp_path / "a"), Library.open(tmp_path / "b")
    assert drawn(one, materials) == drawn(other, materials)
    found = [one.get(i).material for i in drawn(one, materials)]
    assert set(found) == {"wood", "metal"}
    assert 0.68 < found.count("wood") / len(found) < 0.82
    assert set(drawn(one, materials)) == {e.id for m in ("wood", "metal") for e in one.of_material(m)}
    assert one.draw(np.random.default_rng(0), materials, "tree") is None
    assert set(drawn(one, Materials.parse({"*": "*"}))) == set(facts(one))


def test_identity_is_that_of_the_entries_a_run_may_use(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(ALL[:3])
    materials = Materials.parse({"car": "wood"})
    before = identity(shelf.library().used(materials))
    shelf.add([texture(7, "stone")])
    assert identity(shelf.library().used(materials)) == before
    shelf.add([texture(8, "wood")])
    library = shelf.library()
    assert identity(library.used(materials)) != before
    assert identity(library.entries) == identity(library.entries[::-1])


def test_entries_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(ALL)
    library = shelf.library()
    assert library.get(ALL[2].entry.id[:16]) == ALL[2].entry
    for text in ("", "zz"):
        with pytest.raises(ConfigError, match="expected one"):
            library.get(text)
    with pytest.raises(ConfigError, match="has no normal map"):
        library.read(ALL[0].entry, "normal")
