"""What a configuration may say: plain YAML within limits, no environment, no class outside the list."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synthaug.engine import configure, targets, vet
from synthaug.errors import ConfigError, Refusal, SecurityError

pytestmark = pytest.mark.security
ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "tests" / "plugins" / "conf"
PLUGIN = "tests.plugins.stand_ins"
GIVEN = ["read.root=/in", "write.root=/out"]

_STDLIB = (
    "builtins os posix posixpath shutil subprocess pathlib pickle marshal importlib runpy urllib.request socket ctypes"
    " tempfile zipfile tarfile code codeop pty signal multiprocessing threading asyncio http.server webbrowser operator"
    " functools types inspect gc sys io glob shelve sqlite3 logging.config"
)


def public_callables() -> list[str]:
    """Names of callables that a hostile recipe could reach for: the standard library's and our own."""
    names = [f"{m}.{n}" for m in _STDLIB.split() for n, v in vars(importlib.import_module(m)).items() if callable(v)]
    for file in (ROOT / "synthaug").rglob("*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.append(f"{module}.{node.name}")
    names += ["pathlib.Path.write_text", "numpy.load", "yaml.unsafe_load", "torch.load", "hydra.utils.instantiate"]
    return [name for name in names if name not in targets.own()]


def test_g1_every_public_callable_outside_the_list_is_refused() -> None:
    names = public_callables()
    assert len(names) > 1500
    for name in names:
        with pytest.raises(SecurityError, match="_target_"):
            vet.check_targets({"read": {"deep": [{"_target_": name}]}}, targets.own())


@pytest.mark.parametrize(
    "variant",
    [
        "{_target_: canary_module.touch, path: CANARY}",
        "{_target_: os.system, command: touch CANARY}",
        "{_target_: tests.plugins.stand_ins.Tint, free: {_target_: canary_module.touch, path: CANARY}}",
        "{_target_: tests.plugins.stand_ins.Tint, free: [{_target_: subprocess.run, args: [touch, CANARY]}]}",
        "{_target_: tests.plugins.stand_ins.Tint, _partial_: true}",
        "{_target_: tests.plugins.stand_ins.Tint, _args_: [1]}",
        "{_target_: tests.plugins.stand_ins.os.system}",
        "{_target_: tests.plugins.stand_ins}",
        "{_target_: [os, system]}",
        "{_target_: '${where}', free: 1}",
    ],
)
def test_g1_refused_before_any_import(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "canary_module.py").write_text(f"open({str(canary)!r}, 'w').close()\ntouch = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tmp_path / "mine.yaml"
    body = f"defaults: [/config, /read: stand_in, /write: stand_in]\nwhere: null\nbad: {variant}\n"
    recipe.write_text(body.replace("CANARY", str(canary)).replace("where: null\n", "", "where" not in variant))
    extra = ["+where=canary_module.touch"] if "where" in variant else []
    with pytest.raises(Refusal):
        configure.compose(str(recipe), [*GIVEN, *extra], config_dir=str(CONF), plugins=[PLUGIN])
    assert "canary_module" not in sys.modules
    assert not canary.exists()


def test_g1_plugin_classes_need_the_plugin_to_be_named() -> None:
    with pytest.raises(SecurityError, match="--plugin"):
        configure.compose("trial", GIVEN, config_dir=str(CONF))
    assert configure.compose("trial", GIVEN, config_dir=str(CONF), plugins=[PLUGIN]).plugins.keys() == {PLUGIN}


def test_g1_names_that_a_plugin_only_imports_are_not_its_own() -> None:
    allowed = targets.of([PLUGIN])
    assert f"{PLUGIN}.Tint" in allowed
    assert f"{PLUGIN}.ConfigError" not in allowed
    assert f"{PLUGIN}.Any" not in allowed


@pytest.mark.parametrize(
    "recipe",
    [
        "hydra: {job_logging: {root: {}}}\n",
        "defaults: [/config, override /hydra/job_logging: default]\n",
        "defaults: [/config, /tint@hydra.callbacks.x: warm]\n",
        "defaults: [/config, /tint@_global_.hydra.callbacks: warm]\n",
        "# @package hydra.callbacks\nx: {_target_: os.system}\n",
    ],
)
def test_g1_a_recipe_may_not_configure_hydra(recipe: str) -> None:
    with pytest.raises(SecurityError, match="configures Hydra"):
        vet.parse(recipe.encode(), "mine.yaml")


@pytest.mark.parametrize(
    "key", ["hydra.searchpath", "+hydra.callbacks.x", "++hydra.job_logging", "tint@hydra.callbacks.x"]
)
def test_g1_overrides_may_only_touch_sweeps_of_hydra(key: str) -> None:
    with pytest.raises(SecurityError, match="configures Hydra"):
        vet.check_override(f"{key}=[x]")
    vet.check_override("hydra/launcher=joblib")
    vet.check_override("hydra.sweeper.params={seed: 1}")


def bomb() -> str:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join(f'*a{i - 1}' for _ in range(10))}]" for i in range(1, 9)]
    return "\n".join(rows)


HOSTILE = {
    "alias bomb": bomb(),
    "one more than a MiB": "a: " + "x" * (1 << 20),
    "a MiB of quoted text": 'a: "' + "\\n" * ((1 << 19) - 50) + '"\nb: 1\nb: 2',
    "a MiB of comment": "#" + " " * ((1 << 20) - 20) + "\nb: 1\nb: 2",
    "duplicate keys": "seed: 1\nseed: 2",
    "duplicate keys deep down": "a: {b: [{c: 1, c: 2}]}",
    "python tag": "a: !!python/object/apply:os.system ['touch canary']",
    "standard tag": "a: !!binary aGVsbG8=",
    "own tag": "a: !env HOME",
    "deep flow": "a: " + "[" * 100_000,
    "deep block": "\n".join(" " * i + "a:" for i in range(500)),
    "many values": "a: [" + "1," * 400_000 + "]",
    "many aliases": "a: &a 1\nb: [" + "*a," * 200 + "]",
    "alias of itself": "a: &a [*a]",
    "merge bomb": "a: &a {b: 1}\n" + "c: {<<: [" + "*a," * 5000 + "]}",
    "two documents": "a: 1\n---\nb: 2",
    "a list": "- a\n- b",
    "a number with 5,000 digits": "a: " + "9" * 5000,
    "key that is no text": "{[1, 2]: 3}",
    "key that is true": "true: 3",
    "no YAML": "a: [1, 2",
    "control character": "a: \x07",
}
_LIMITED = """
import resource, sys, pathlib
from synthaug.engine import vet
from synthaug.errors import Refusal
resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))
before = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
try:
    vet.read_yaml(pathlib.Path(sys.argv[1]))
except Refusal:
    print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - before)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_g2_refused_within_a_second_and_200_mb(name: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_text(HOSTILE[name])
    done = subprocess.run([sys.executable, "-c", _LIMITED, file], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert float(done.stdout) < 1.0


def test_g2_not_text_and_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not plain YAML"):
        vet.parse(b"a: \xff\xfe", "mine.yaml")
    with pytest.raises(ConfigError, match="cannot be opened"):
        vet.read_yaml(tmp_path / "missing.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        vet.read_yaml(tmp_path / "pipe.yaml")


def test_plain_yaml_is_read_as_composition_reads_it() -> None:
    text = "a: &x 1e-3\nb: *x\nc: 2026-01-02\nd: [1, 2.5, null, true, text]\ne: {f: 'on'}\n7: seven\ng: -1.5E+3\n"
    data, _ = vet.parse(text.encode(), "mine.yaml")
    expected = {"a": 1e-3, "b": 1e-3, "c": "2026-01-02", "d": [1, 2.5, None, True, "text"], "e": {"f": "on"}}
    assert data == {**expected, 7: "seven", "g": -1500.0}
    assert vet.parse(b"", "empty.yaml")[0] == {}


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1), st.lists(st.integers() | st.booleans() | st.text("xyz ")), max_size=5
    )
)
def test_what_yaml_writes_is_read_back(data: dict[str, list[object]]) -> None:
    assert vet.parse(yaml.safe_dump(data).encode(), "mine.yaml")[0] == data


ENVIRONMENT = [
    "${oc.env:SECRET}",
    "a ${oc.env:SECRET} b",
    "${ oc.env:SECRET}",
    "${oc.env:SECRET,default}",
    "${${a}:SECRET}",
    "${oc.${b}:SECRET}",
    "$${a}{oc.env:SECRET}",
    "\\${oc.env:SECRET}",
    '${oc.decode:"\\${oc.env:SECRET}"}',
    "${oc.create:{a: 1}}",
    "${oc.select:a,${oc.env:SECRET}}",
    "${hydra:runtime.cwd}",
    "${now:%Y}",
    "${mine:1}",
    "${a",
]


@pytest.mark.parametrize("text", ENVIRONMENT)
def test_g3_environment_and_resolvers_are_refused(text: str) -> None:
    with pytest.raises(SecurityError, match=r"refused"):
        vet.check_references({"deep": [{"key": text}]}, "mine.yaml")
    with pytest.raises(SecurityError, match="refused"):
        vet.check_references({text: 1}, "mine.yaml")
    with pytest.raises(SecurityError, match="refused"):
        vet.check_override(f"key={text}")


@pytest.mark.parametrize("place", ["recipe", "override", "group"])
def test_g3_the_secret_occurs_nowhere(place: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "extra").mkdir(parents=True)
    value = "${oc.env:SECRET}"
    (folder / "extra" / "x.yaml").write_text(f"root: {value if place == 'group' else 'x'}\n")
    (folder / "mine.yaml").write_text(
        f"defaults: [/config, /extra@read: x, _self_]\nread: {{images: '{value if place == 'recipe' else 'x'}'}}\n"
    )
    words = [sys.executable, "-m", "synthaug", "run", "mine", "--config-dir", str(folder), "--cfg", "job", "--resolve"]
    words += [f"read.images={value}"] if place == "override" else []
    environment = {**os.environ, "SECRET": "hush-4711", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout
    assert "hush-4711" not in done.stdout + done.stderr


def test_g3_plain_references_hold_and_are_stored_unresolved() -> None:
    given_ = [*GIVEN, "tint.strength=${polish.strength}", "tint.free=run ${seed} of ${.steps}"]
    config = configure.compose("trial", given_, config_dir=str(CONF), plugins=[PLUGIN])
    assert config.stages["tint"]["strength"] == 0.25
    assert config.stages["tint"]["free"] == "run 0 of 1"
    assert config.resolved["tint"]["strength"] == "${polish.strength}"


@pytest.mark.parametrize("data", [{"a": "${b}", "b": "${a}"}, {"a": "x", "b": "${a}${a}", "c": "${b}${b}"}])
def test_references_to_references_are_refused(data: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="refers to a reference"):
        vet.check_references(data, "mine.yaml")


def test_a_group_file_may_refer_to_a_setting_of_its_own_name() -> None:
    assert vet.parse(b"seed: ${seed}\n", "read/mine.yaml")[0] == {"seed": "${seed}"}
    with pytest.raises(ConfigError, match="refers to a reference"):
        vet.check_references({"seed": "${seed}"}, "configuration")


def test_too_many_references_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64"):
        vet.check_references({"a": "x", "b": ["${a}"] * 65}, "mine.yaml")
