"""`synthaug help` and `--cfg`: what a user reads before the first run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from synthaug.engine import describe_config
from synthaug.engine.describe_config import arguments_of
from synthaug.errors import ConfigError, SecurityError
from tests.plugins.stand_ins import Curve, Tint

CONF = str(Path(__file__).resolve().parents[1] / "plugins" / "conf")
PLUGIN = "tests.plugins.stand_ins"


def test_help_lists_slots_in_order_with_every_field() -> None:
    text = describe_config.describe("trial", ["tint.strength=0.3"], CONF, [PLUGIN])
    lines = text.splitlines()
    assert lines[0] == "trial: read -> tint -> polish -> write"
    heads = [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")]
    assert heads == ["read", "tint", "polish", "write", "engine", "settings"]
    assert "    tint.strength=0.3  (float, default 0.5)\n      Share of the shift, 0 to 1. Zero leaves" in text
    assert "    read.root=???  (str, mandatory)" in text
    assert "    read.images=null  (str | null, default null)" in text
    assert "    write.root=???  (str, mandatory)" in text
    assert "    engine.workers=2  (int, 0 to 1024, operational)" in text
    assert "  Shifts colours.\n" in text
    assert max(map(len, lines)) <= 120


def test_help_obeys_the_rules_of_a_run() -> None:
    with pytest.raises(SecurityError, match="--plugin"):
        describe_config.describe("trial", [], CONF)
    with pytest.raises(ConfigError, match="Did you mean 'seed'"):
        describe_config.describe("trial", ["sede=1"], CONF, [PLUGIN])


def test_recipes_are_listed_with_their_purpose() -> None:
    text = describe_config.recipes_text()
    assert "  convert          Reads labelled pictures in one format" in text


def test_cfg_is_yaml_that_can_be_read_again() -> None:
    text = describe_config.as_yaml("trial", ["tint.strength=${polish.strength}"], CONF, None)
    assert yaml.safe_load(text)["tint"]["strength"] == "${polish.strength}"
    resolved = describe_config.as_yaml("trial", ["tint.strength=${polish.strength}"], CONF, "tint", resolve=True)
    assert yaml.safe_load(resolved)["strength"] == 0.25
    with pytest.raises(ConfigError, match="has no 'tnt'"):
        describe_config.as_yaml("trial", [], CONF, "tnt")


def test_arguments_come_from_google_docstrings() -> None:
    assert arguments_of(Tint)["strength"] == "Share of the shift, 0 to 1. Zero leaves the picture alone."
    assert list(arguments_of(Tint)) == ["strength", "steps", "colour", "names", "soft", "curve", "free"]
    assert arguments_of(Curve) == {"gamma": "Exponent, above 0."}
    assert arguments_of(int) == {}
