"""Where a run reads and writes: inputs and outputs apart, nothing left behind by a refusal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from synthaug.contracts import Appearance
from synthaug.engine import job, local
from synthaug.engine.configure import compose
from synthaug.engine.publish import Output
from synthaug.errors import ConfigError, InputError, Rejected
from tests.engine import runs
from tests.fakes import FakeModel, FakeReader

PLUGIN = "tests.engine.test_roots"
FOLDER = "write._target_=synthaug.formats.folder.writer.FolderWriter"


class Reference(Appearance):
    """Has a path beside its root.

    Args:
        photos: A folder.
    """

    operational = frozenset({"photos"})

    def __init__(self, *, photos: str) -> None:
        self.photos = photos

    def draw(self, rng: Any, labels: Any, attempt: int) -> dict[str, Any]:
        return {}

    def paint(self, images: Any, labels: Any, draws: Any) -> Any:
        return images


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "in"
    assert runs.run(folder, "gate.share=0", "read.count=4", FOLDER) == 0
    return folder


def convert(source: Path | str, out: Path | str, *overrides: str) -> int:
    words = [f"read.root={source}", f"write.root={out}", "write=folder", "engine.workers=0", "engine.progress=none"]
    return local.run(compose("convert", runs.merged(*words, *overrides)))


@pytest.mark.parametrize(
    ("out", "word"), [("in", "is"), ("in/out", "lies in"), ("in/a/../out", "lies in"), (".", "holds"), ("link", "is")]
)
def test_an_output_in_or_around_the_input_is_refused(out: str, word: str, source: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "in").symlink_to(source)
    (here / "link").symlink_to(source)
    if out == ".":
        (here / "in").unlink()
        (here / "in").mkdir()
    before = sorted(source.rglob("*"))
    with pytest.raises(ConfigError, match=rf"write\.root=.* {word} read\.root="):
        convert(here / "in", here / out)
    assert sorted(source.rglob("*")) == before


def test_a_folder_with_a_name_that_begins_alike_is_another(source: Path) -> None:
    assert convert(source, f"{source}-out") == 0


def test_photos_of_a_stage_are_inputs_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    stage = f"+look={{_target_: {PLUGIN}.Reference, photos: '{tmp_path}/photos'}}"
    words = ["engine.workers=0", "engine.progress=none", "gate.share=0", stage, f"write.root={tmp_path}/photos/out"]
    with pytest.raises(ConfigError, match=r"lies in look\.photos="):
        local.run(compose(runs.RECIPE, words, plugins=[runs.PLUGIN, PLUGIN]))
    assert os.listdir(tmp_path / "photos") == []


def test_the_home_folder_is_found(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(source.parent))
    monkeypatch.chdir(tmp_path)
    assert convert("~/in", "~/home-out") == 0
    assert (source.parent / "home-out" / "manifest.json").is_file()
    assert os.listdir(tmp_path) == []


def test_a_refused_run_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no gate judges"):
        runs.run(tmp_path / "one", "~gate")
    (tmp_path / "two").mkdir()
    with pytest.raises(ConfigError, match="no gate judges"):
        runs.run(tmp_path / "two", "~gate")
    with pytest.raises(InputError):
        convert(tmp_path / "no-such-input", tmp_path / "three")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "two"]


def test_weights_that_do_not_load_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(stage: FakeModel, device: str) -> None:
        raise ConfigError("no such weights")

    monkeypatch.setattr(FakeModel, "load", load)
    with pytest.raises(ConfigError, match="no such weights"):
        runs.run(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_resume_takes_nothing_away(tmp_path: Path) -> None:
    runs.run(tmp_path / "out", "gate.share=0")
    golden = runs.digest(tmp_path / "out")
    with pytest.raises(ConfigError, match="begun with another"):
        runs.run(tmp_path / "out", "gate.share=0", "seed=9")
    assert runs.digest(tmp_path / "out") == golden
    (tmp_path / "begun").mkdir()
    Output(tmp_path / "begun").preflight()
    with pytest.raises(ConfigError, match="no gate judges"):
        runs.run(tmp_path / "begun", "~gate")
    assert (tmp_path / "begun/.synthaug").is_dir(), "it was there before"


def test_files_without_a_plan_are_nobodys_to_overwrite(tmp_path: Path) -> None:
    Output(tmp_path / "out").preflight()
    (tmp_path / "out" / "images").mkdir()
    (tmp_path / "out" / "images" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"no plan of a run, but holds 1 other entries, such as images"):
        runs.run(tmp_path / "out")
    assert (tmp_path / "out/images/mine.png").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["00002.png", "00001.json"])
def test_a_deleted_input_is_named_on_resume(name: str, tmp_path: Path) -> None:
    source = tmp_path / "in"
    runs.run(source, "gate.share=0", "read.count=4", FOLDER)
    assert convert(source, tmp_path / "out") == 0
    gone = [path for path in source.rglob(name) if ".synthaug" not in path.parts]
    assert gone, "the folder format writes such files"
    gone[0].unlink()
    with pytest.raises((ConfigError, InputError)) as refusal:
        convert(source, tmp_path / "out")
    assert name.partition(".")[0] in str(refusal.value)
    assert refusal.value.exit_status == 2


def test_an_input_that_vanishes_while_a_run_is_under_way(tmp_path: Path) -> None:
    from synthaug.engine.workers import read_one

    source = tmp_path / "in"
    runs.run(source, "gate.share=0", "read.count=4", FOLDER)
    words = [f"read.root={source}", f"write.root={tmp_path / 'out'}", "write=folder", "engine.progress=none"]
    opened = job.open_job(compose("convert", words))
    made = opened.plan({})
    next((source / "images").rglob("00002.png")).unlink()
    with pytest.raises(InputError, match=r"sample fake/00002 has vanished since the plan .*00002\.png"):
        read_one(opened.reader_spec(made).build(), "fake/00002", made.inputs)
    outcome = read_one(opened.reader_spec(made).build(), "fake/00002", {})
    assert isinstance(outcome, Rejected), "a preview has planned nothing"


def test_a_device_that_is_not_there_is_refused_before_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def ids(reader: FakeReader) -> list[str]:
        raise AssertionError("planned")

    monkeypatch.setattr(FakeReader, "ids", ids)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"engine\.device=cuda: this machine has no such device; available: cpu$"):
        runs.run(tmp_path / "out", "engine.device=cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"engine\.device=cuda:2: .* available: cpu, cuda:0, cuda:1$"):
        runs.run(tmp_path / "out", "engine.device=cuda:2")
    with pytest.raises(ConfigError, match=r"engine\.devices=3: one process per device, and there are 2"):
        runs.run(tmp_path / "out", "engine.device=cuda", "engine.devices=3")
    assert list(tmp_path.iterdir()) == []
