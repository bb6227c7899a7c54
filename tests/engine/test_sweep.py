"""Sweeps: a folder and a status per job; one that fails hides none of the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.engine import local, sweep, vet
from synthaug.engine.configure import RunConfig
from synthaug.errors import ConfigError, Interrupted, SecurityError

CONF = str(Path(__file__).resolve().parents[1] / "plugins" / "conf")
PLUGIN = "tests.plugins.stand_ins"
FAKE = str(Path(__file__).resolve().parents[1] / "fake.yaml")


def multirun(*overrides: str) -> int:
    return sweep.multirun("trial", ["read.root=/in", "write.root=/out", *overrides], config_dir=CONF, plugins=[PLUGIN])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    """Runs that were asked for; the seed says how each ends."""
    seen: list[RunConfig] = []
    ends: dict[int, Any] = {3: 3, 2: ConfigError("no"), 1: RuntimeError("a defect"), 75: Interrupted("stopped")}

    def run(config: RunConfig) -> int:
        seen.append(config)
        end = ends.get(config.settings["seed"], 0)
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(local, "run", run)
    monkeypatch.chdir(tmp_path)
    return seen


def test_each_job_has_its_own_folder(runs: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert multirun("seed=10,11", "tint=warm,cold") == 0
    roots = [config.write["root"] for config in runs]
    assert roots[0] == "/out/seed=10,tint=warm"
    assert len(set(roots)) == 4
    assert [config.resolved["write"]["root"] for config in runs] == roots
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("job ")] == [
        f"job {i}: status 0: {root.removeprefix('/out/')}" for i, root in enumerate(roots)
    ]
    assert os.listdir() == []


@pytest.mark.parametrize(("seeds", "status"), [("10,3", 3), ("3,2,10", 2), ("2,1,3,10", 1), ("1,75", 75), ("10", 0)])
def test_the_worst_status_is_returned_and_every_job_runs(runs: list[RunConfig], seeds: str, status: int) -> None:
    assert multirun(f"seed={seeds}") == status
    assert [str(config.settings["seed"]) for config in runs] == seeds.split(",")


def test_nothing_starts_after_an_interruption(runs: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert multirun("seed=10,75,11") == 75
    assert [config.settings["seed"] for config in runs] == [10, 75]
    assert "job 2: status 75: seed=11: not started" in capsys.readouterr().out


def test_a_mistake_in_one_job_stops_only_that_job(runs: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert multirun("tint.strength=high,0.5") == 2
    assert len(runs) == 1
    assert "status 2: tint.strength=high: tint.strength: 'high' is a str" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sede=1,2", "there is no 'sede' to override. Did you mean 'seed'?"),
        ("tint=warm,warn", "tint has no option 'warn'. Did you mean 'warm'?"),
        ("seed=1 seed=2,3", "'seed' is given twice"),
    ],
)
def test_a_sweep_that_cannot_be_composed_is_refused(override: str, words: str, runs: list[RunConfig]) -> None:
    with pytest.raises(ConfigError) as refusal:
        multirun("engine.workers=1", *override.split())
    assert words in str(refusal.value)
    assert runs == []
    assert os.environ.get("HYDRA_FULL_ERROR") is None


def test_a_slot_that_cannot_be_dropped_is_named(runs: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert multirun("seed=10,11", "~polsh") == 2
    assert runs == []
    assert "there is no 'polsh' to override. Did you mean 'polish'?" in capsys.readouterr().out


def test_hydras_own_node_is_left_alone(runs: list[RunConfig]) -> None:
    with pytest.raises(SecurityError, match="configures Hydra itself"):
        multirun("seed=1,2", "hydra.callbacks={}")
    assert runs == []


@pytest.mark.security
def test_g1_a_launcher_is_one_that_is_installed(runs: list[RunConfig], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(SecurityError, match=r"_target_ 'os\.mkdir'"):
        multirun("seed=1,2", "hydra.launcher._target_=os.mkdir", f"+hydra.launcher.path={canary}")
    assert runs == []
    assert not canary.exists()


@pytest.mark.security
@pytest.mark.parametrize(
    "body", ["callbacks: {x: {y: 1}}", "job: {env_set: {A: b}}", "job_logging: {root: {level: 1}}"]
)
def test_g1_hydras_own_node_is_compared_even_if_the_text_passed(
    body: str, runs: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vet, "_check_hydra", lambda *_: None)
    (tmp_path / "foo").mkdir()
    (tmp_path / "foo" / "bar.yaml").write_text(f"# @package hydra\n{body}\n")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("defaults:\n  - /config\n  - /foo: bar\n")
    with pytest.raises(SecurityError, match="configures Hydra itself"):
        sweep.multirun(str(recipe), ["seed=1,2"], config_dir=str(tmp_path))
    assert runs == []


def test_folders_are_named_by_what_varies() -> None:
    constant = sweep.constants(["read.root=/a", "engine.workers=4", "seed=1,2", "tint=warm", "x=range(1,3)"])
    assert constant == {"read.root", "engine.workers", "tint"}
    assert sweep.job_folder(["read.root=/a", "engine.workers=4", "seed=1", "tint=warm"], constant) == "seed=1"
    assert sweep.job_folder(["read.root=/b", "engine.workers=4"], {"engine.workers"}) == "read.root=~2Fb"
    assert sweep.job_folder(["read.root=/a", "tint=warm"], {"read.root", "tint"}) == "tint=warm", "nothing varies"
    assert sweep.job_folder([], ()) == "default"


def test_a_long_name_keeps_every_key_that_varies() -> None:
    overrides = [f"read.images={'long/' * 60}", "seed=12345", "gate.boundary=0.625", f"tint.names={'x' * 200}"]
    name = sweep.job_folder(overrides, ())
    assert len(name) <= 160
    for key in ("images=", "seed=12345", "boundary=0.625", "names="):
        assert key in name
    assert name != sweep.job_folder([*overrides[:3], f"tint.names={'x' * 201}"], ())


def test_a_slot_that_a_recipe_spells_out_is_dropped_from_every_job(runs: list[RunConfig]) -> None:
    assert multirun("seed=10,11", "~polish") == 0
    assert [list(config.stages) for config in runs] == [["tint"], ["tint"]]
    assert [config.write["root"] for config in runs] == ["/out/seed=10", "/out/seed=11"]


def test_the_folder_of_a_sweep_is_made_and_not_left_behind_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, fixed = tmp_path / "sweep", ["read.count=3", "gate.share=0", "engine.workers=0", "engine.progress=none"]
    refused = sweep.multirun(
        FAKE, [f"write.root={root}", *fixed, "engine.device=cuda:7,cuda:8"], plugins=["tests.fakes"]
    )
    assert refused == 2
    assert not root.exists()
    assert sweep.multirun(FAKE, [f"write.root={root}", *fixed, "seed=1,2"], plugins=["tests.fakes"]) == 0
    assert sorted(path.name for path in root.iterdir()) == ["seed=1", "seed=2"]
    assert "job 1: status 0: seed=2" in capsys.readouterr().out
    deep = sweep.multirun(FAKE, [f"write.root={tmp_path}/no/sweep", *fixed, "seed=1,2"], plugins=["tests.fakes"])
    assert deep == 2
    assert not (tmp_path / "no").exists()


def test_ctrl_c_in_one_job_ends_the_sweep(
    runs: list[RunConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(config: RunConfig) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run", pressed)
    assert multirun("seed=10,11") == 130
    assert "job 1: status 75: seed=11: not started" in capsys.readouterr().out


words = st.lists(st.text(min_size=1, max_size=60).map(lambda text: f"key={text}"), min_size=1, max_size=4)


@given(words, words)
def test_folders_are_safe_names_and_never_shared(one: list[str], two: list[str]) -> None:
    names = [sweep.job_folder(overrides, ()) for overrides in (one, two)]
    for name in names:
        assert len(name) <= 160
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>| \0')
        assert not name.startswith((".", "-"))
    if ",".join(sorted(one)) != ",".join(sorted(two)):
        assert names[0] != names[1]
