"""Composition: recipes, overrides, settings; every mistake is refused and the nearest name given."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from synthaug.engine import configure, recipes, settings, targets
from synthaug.engine.configure import RunConfig
from synthaug.errors import ConfigError, SecurityError

CONF = Path(__file__).resolve().parents[1] / "plugins" / "conf"
PLUGIN = "tests.plugins.stand_ins"
GIVEN = ["read.root=/in", "write.root=/out"]


def compose(*overrides: str, pipeline: str = "trial", given: list[str] = GIVEN) -> RunConfig:
    return configure.compose(pipeline, [*given, *overrides], config_dir=str(CONF), plugins=[PLUGIN])


def refusal(*overrides: str, given: list[str] = GIVEN, pipeline: str = "trial") -> str:
    with pytest.raises(ConfigError) as caught:
        compose(*overrides, given=given, pipeline=pipeline)
    return str(caught.value)


def write_recipe(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


RECIPE = "defaults:\n  - /config\n  - /read: stand_in\n  - /tint: warm\n  - /write: stand_in\n"


def test_composes_in_the_order_of_the_defaults_list() -> None:
    config = compose("tint.strength=0.3", "seed=7")
    assert list(config.stages) == ["tint", "polish"]
    assert (config.name, config.settings["seed"]) == ("trial", 7)
    assert config.stages["tint"]["strength"] == 0.3
    assert config.stages["polish"]["strength"] == 0.25
    assert (config.read["root"], config.write["root"]) == ("/in", "/out")
    assert config.engine["shard_size"] == 256
    assert config.targets == [f"{PLUGIN}.{n}" for n in ("Reader", "Tint", "Tint", "Writer")]
    assert len(config.plugins[PLUGIN]) == 64


@pytest.mark.parametrize("override", ["~polish", "polish=null"])
def test_a_slot_is_dropped_by_name(override: str) -> None:
    assert list(compose(override).stages) == ["tint"]


def test_a_group_is_chosen_and_a_slot_added() -> None:
    assert compose("tint=cold").stages["tint"]["strength"] == 0.25
    assert list(compose("+tint@last=warm").stages) == ["tint", "polish", "last"]


def test_a_recipe_of_the_users_own_lies_anywhere(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, RECIPE + "tint:\n  strength: 0.9\nseed: 5\n")
    config = compose(pipeline=recipe)
    assert (config.name, config.stages["tint"]["strength"], config.settings["seed"]) == ("mine", 0.9, 5)


def test_a_users_recipe_may_bear_any_name(tmp_path: Path) -> None:
    for name in ("config.yaml", "convert.yaml", "with space.yaml", "hydra.yaml"):
        assert list(compose(pipeline=write_recipe(tmp_path, RECIPE, name)).stages) == ["tint"]


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "defaults:\n  - trial\n  - _self_\ntint:\n  steps: 4\n")
    config = compose(pipeline=recipe)
    assert list(config.stages) == ["tint", "polish"]
    assert config.stages["tint"]["steps"] == 4


def test_what_was_vetted_is_what_is_composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, RECIPE)
    real = recipes.collect

    def swap_after_check(pipeline: str, config_dir: str | None) -> Any:
        found = real(pipeline, config_dir)
        Path(recipe).write_text(RECIPE + "tint:\n  _target_: os.system\n")
        return found

    monkeypatch.setattr(recipes, "collect", swap_after_check)
    assert compose(pipeline=recipe).stages["tint"]["_target_"] == f"{PLUGIN}.Tint"


def test_composing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    monkeypatch.chdir(tmp_path)
    compose()
    before = str(ConfigStore.instance().repo)
    compose(pipeline=write_recipe(tmp_path, RECIPE))
    refusal("sede=1")
    assert str(ConfigStore.instance().repo) == before
    assert not GlobalHydra.instance().is_initialized()
    assert os.listdir(tmp_path) == ["mine.yaml"]


def test_a_mapping_may_be_given_whole() -> None:
    assert compose("split={train:0.8,val:0.2}").settings["split"] == {"train": 0.8, "val": 0.2}
    assert compose("tint.names={car:1}").stages["tint"]["names"] == {"car": 1}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sede=1", "there is no 'sede' to override. Did you mean 'seed'?"),
        ("+sede=1", "'sede' is neither a setting nor a slot. Did you mean 'seed'?"),
        ("tint.strenght=0.3", "there is no 'tint.strenght' to override. Did you mean 'tint.strength'?"),
        ("+tint.strenght=0.3", "tint: Tint has no field 'strenght'. Did you mean 'strength'?"),
        ("tnt.strength=0.3", "there is no 'tnt.strength' to override. Did you mean 'tint.strength'?"),
        ("split.train=1", "split is empty, and takes fields of your own: add one with a plus, '+split.train=VALUE'"),
        ("raed=stand_in", "there is no 'raed' to override. Did you mean 'read'?"),
        ("read=stand_out", "read has no option 'stand_out'. Did you mean 'stand_in'?"),
        ("tint=warn", "tint has no option 'warn'. Did you mean 'warm'?"),
        ("~polsh", "there is no 'polsh' to override. Did you mean 'polish'?"),
        ("engine.wrokers=3", "there is no 'engine.wrokers' to override. Did you mean 'engine.workers'?"),
        ("+engine.wrokers=3", "'engine.wrokers' is no setting. Did you mean 'workers'?"),
        ("engine=locl", "engine has no option 'locl'. Did you mean 'local'?"),
        ("+tnt={strength:1}", "slot 'tnt' has no _target_, so there is nothing to run. Did you mean 'tint'?"),
        ("seed=many", "seed: 'many' is a str, expected int, 0 to"),
        ("seed=-1", "seed: -1 is out of range"),
        ("max_reject_ratio=2", "max_reject_ratio: 2 is out of range, expected float, 0 to 1"),
        ("ungated=1", "ungated: 1 is a int, expected bool"),
        ("split={train:0.8,val:0.3}", "sum to 1.1, expected 1"),
        ("split={train:2,val:-1}", "split.train: share: 2 is out of range"),
        ("engine.progress=bra", "engine.progress: 'bra' is not known. Did you mean 'bar'?"),
        ("tint.strength=high", "tint.strength: 'high' is a str, expected float"),
        ("tint.strength=${nothing}", "an interpolation cannot be resolved: Interpolation key 'nothing' not found"),
        ("seed=1,2", "Ambiguous value"),
        ("tint.free=hello world, (4k)", "A value with spaces, commas or brackets needs two quotes"),
        ("stray", "'stray' is no override"),
    ],
)
def test_g4_mistakes_are_named_and_the_way_out_given(override: str, words: str) -> None:
    assert words in refusal(override)


def test_g4_mandatory_values() -> None:
    assert refusal(given=["write.root=/out"]) == (
        "read.root is mandatory and has no value; give read.root=DIR, the folder of the dataset that is read"
    )
    assert refusal(given=["read.root=/in"]) == (
        "write.root is mandatory and has no value; give write.root=DIR, the folder that the dataset goes to"
    )
    assert "read.root=VALUE, write.root=VALUE" in refusal(given=[])
    assert refusal(given=["read.root=", "write.root=/out"]).startswith("read.root is mandatory and is empty")
    assert refusal(given=["read.root=/in", "write.root=' '"]).startswith("write.root is mandatory and is empty")


def test_an_output_may_be_left_out_where_none_is_needed() -> None:
    config = configure.compose("trial", ["read.root=/in"], config_dir=str(CONF), plugins=[PLUGIN], output=False)
    assert config.write["root"] == ""
    with pytest.raises(ConfigError, match=r"read\.root is mandatory"):
        configure.compose("trial", [], config_dir=str(CONF), plugins=[PLUGIN], output=False)


@pytest.mark.parametrize(
    "pair", ["seed=1 seed=2", "seed=1 ++seed=2", "+more=1 more=2", "~tint tint=cold", "~tint ~tint"]
)
def test_g4_a_key_given_twice_is_refused(pair: str) -> None:
    key = pair.split()[0].lstrip("+~").partition("=")[0]
    assert f"'{key}' is given twice: '{pair.split()[0]}' and '{pair.split()[1]}'" in refusal(*pair.split())


def test_a_choice_and_a_field_of_it_are_two_keys() -> None:
    assert compose("tint=cold", "tint.strength=0.125").stages["tint"]["strength"] == 0.125


def test_the_home_folder_is_spelt_out_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    config = compose("tint.free=~/kept", given=["read.root=~/in", "write.root=~/out dir"])
    assert (config.read["root"], config.write["root"]) == ("/home/somebody/in", "/home/somebody/out dir")
    assert config.stages["tint"]["free"] == "~/kept", "no path"


@pytest.mark.parametrize("device", ["tpu", "cuda:", "cuda:x", "gpu", "cpu:0"])
def test_g4_a_device_that_does_not_exist_anywhere(device: str) -> None:
    assert f"engine.device: '{device}' is not known, expected auto, cpu, cuda or cuda:N" in refusal(
        f"engine.device='{device}'"
    )
    assert compose("engine.device=cuda:3").engine["device"] == "cuda:3"


def test_g4_mandatory_choice(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, RECIPE.replace("/read: stand_in", "/read: ???"))
    assert refusal(pipeline=recipe).startswith("read is mandatory; give read=OPTION.")
    assert compose("read=stand_in", pipeline=recipe).read["root"] == "/in"


def test_g4_unknown_recipes() -> None:
    assert "no recipe 'trail' in pipelines/. Did you mean 'trial'?" in refusal(pipeline="trail")
    assert "cannot be opened" in refusal(pipeline="missing/mine.yaml")
    assert "name it mine.yaml" in refusal(pipeline="mine.yml")


def test_g4_a_recipe_without_settings_or_reader(tmp_path: Path) -> None:
    text = RECIPE.replace("  - /config\n", "")
    assert "no 'engine'" in refusal(pipeline=write_recipe(tmp_path, text))
    text = RECIPE.replace("  - /config\n", "  - /engine: local\n")
    assert "'seed' is missing; start the recipe's defaults list with /config" in refusal(
        pipeline=write_recipe(tmp_path, text)
    )
    assert "no 'read'" in refusal("~read", given=["write.root=/out"])


def test_config_dir_may_not_shadow_the_package(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "local.yaml").write_text("workers: 1\n")
    with pytest.raises(ConfigError, match="'engine/local' is a name of the package"):
        configure.compose("convert", GIVEN, config_dir=str(tmp_path))


@pytest.mark.security
def test_config_dir_links_and_hydra_groups_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("a: 1\n")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "link.yaml").symlink_to(outside)
    with pytest.raises(SecurityError, match="a link that leaves"):
        configure.compose("convert", GIVEN, config_dir=str(mine))
    (mine / "link.yaml").unlink()
    (mine / "hydra" / "launcher").mkdir(parents=True)
    (mine / "hydra" / "launcher" / "x.yaml").write_text("_target_: os.system\n")
    with pytest.raises(SecurityError, match="configures Hydra itself"):
        configure.compose("convert", GIVEN, config_dir=str(mine))


def test_config_dir_must_exist_and_be_small(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        configure.compose("convert", GIVEN, config_dir=str(tmp_path / "none"))
    for index in range(recipes.MAX_FILES + 1):
        (tmp_path / f"r{index}.yaml").write_text("")
    with pytest.raises(ConfigError, match="over 256 files"):
        configure.compose("convert", GIVEN, config_dir=str(tmp_path))


def test_plugins_are_identified_by_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path(__file__).resolve().parents[1] / "plugins" / "stand_ins.py"
    shutil.copy(source, tmp_path / "own_plugin_one.py")
    (tmp_path / "own_plugin_two.py").write_text(source.read_text() + "\n# changed\n")
    one, two = (targets.source_hash(name) for name in ("own_plugin_one", "own_plugin_two"))
    assert one != two
    assert targets.source_hash("own_plugin_one") == one
    with pytest.raises(ConfigError, match="cannot be imported"):
        targets.load("no_such_plugin")
    with pytest.raises(ConfigError, match="no module name"):
        targets.load("../stages.py")


@functools.cache
def known_keys() -> list[str]:
    config = compose()
    keys = [f"tint.{key}" for key in config.stages["tint"] if key != "_target_"]
    return [*keys, *config.settings, *(f"engine.{key}" for key in config.engine), "read.images", "write.masks"]


@st.composite
def typos(draw: st.DrawFn) -> tuple[str, str]:
    key = draw(st.sampled_from(sorted(known_keys())))
    head, _, last = key.rpartition(".")
    at = draw(st.integers(0, len(last) - 1))
    kind = draw(st.sampled_from(["drop", "double", "swap", "other"]))
    changed = {
        "drop": last[:at] + last[at + 1 :],
        "double": last[:at] + last[at] + last[at:],
        "swap": last[:at] + last[at : at + 2][::-1] + last[at + 2 :],
        "other": last[:at] + draw(st.sampled_from("kqz")) + last[at + 1 :],
    }[kind]
    return key, f"{head}.{changed}" if head else changed


@limits(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(typos(), st.sampled_from(["", "+"]))
def test_g4_every_typo_is_refused_with_a_key_that_exists(typo: tuple[str, str], prefix: str) -> None:
    key, wrong = typo
    if wrong in known_keys():
        return
    message = refusal(f"{prefix}{wrong}=1")
    last = key.rpartition(".")[2]
    assert last in message or "Did you mean" in message


@limits(max_examples=200, deadline=None)
@given(st.sampled_from([*settings.RUN, *settings.ENGINE]), st.data())
def test_g4_settings_take_their_type_and_range_only(setting: settings.Setting, data: st.DataObject) -> None:
    value = data.draw(st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=4) | st.just([]))
    kinds = (int, float) if setting.kind is float else (setting.kind,)
    fits = type(value) in kinds
    if fits and isinstance(value, (int, float)) and not isinstance(value, bool):
        fits = setting.low <= value <= setting.high
    if setting.choices:
        fits = value in setting.choices
    if setting.form:
        fits = fits and value in ("auto", "cpu", "cuda")
    if fits:
        assert setting.check(value, "") == value
    else:
        with pytest.raises(ConfigError, match=setting.name):
            setting.check(value, "")


def test_settings_are_described_where_they_are_configured() -> None:
    config = compose()
    assert list(config.settings) == [setting.name for setting in settings.RUN]
    assert set(config.engine) == {setting.name for setting in settings.ENGINE}
    text = (targets.find_conf() / "engine" / "local.yaml").read_text()
    for line in text.splitlines()[1:]:
        name, operational = line.split(":")[0], "operational" in line
        assert operational == (f"engine.{name}" in settings.OPERATIONAL), line
