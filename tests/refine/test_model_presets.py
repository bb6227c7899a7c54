"""The presets under `conf/refine/model`: what they set exists, and the family that they are for can do it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthaug.engine import configure, targets
from synthaug.models import families
from synthaug.models.additions import Additions
from synthaug.models.capabilities import check_strength, refuse
from synthaug.models.families import Family
from synthaug.refine.img2img import Img2Img

FOLDER = targets.find_conf() / "refine" / "model"
FAMILY: dict[str, Family] = {
    "sd15": families.SD, "sd21": families.SD, "sd-turbo": families.SD, "sdxl": families.SDXL,
    "sdxl-turbo": families.SDXL, "sdxl-lightning": families.SDXL, "sdxl-lcm": families.SDXL,
    "sd35-medium": families.SD3, "flux-dev": families.FLUX, "flux-schnell": families.FLUX,
    "flux2-klein": families.KLEIN, "qwen-image": families.QWEN, "qwen-image-edit": families.QWEN_EDIT,
    "z-image-turbo": families.Z, "kandinsky22": families.KANDINSKY, "unclip": families.UNCLIP,
    "karlo": families.KARLO, "amused": families.AMUSED,
}  # fmt: skip


def preset(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))


def test_there_is_one_for_each() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == FAMILY.keys()


@pytest.mark.parametrize("name", FAMILY)
def test_it_says_licence_size_and_memory(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    for word in ("licence", "size", "memory"):
        assert re.search(rf"^# {word}: .{{6}}", text, re.MULTILINE)
    assert "not measured" in text


@pytest.mark.parametrize("name", FAMILY)
def test_its_family_can_do_it(name: str) -> None:
    told, family = preset(name), FAMILY[name]
    assert told.keys() <= inspect.signature(Img2Img).parameters.keys()
    check_strength(family, told["strength"], told["steps"])
    added = Additions.parse(loras=told.get("loras"), scheduler=told.get("scheduler", ""))
    refuse(family, [*added.knobs, *(["negative_prompt"] if told.get("negative_prompt") else [])])
    added.check(family, [])


@pytest.mark.parametrize("name", FAMILY)
def test_it_composes_over_the_stage_and_under_the_command_line(name: str, tmp_path: Path) -> None:
    own = [f"refine.loras.{lora}.path=F" for lora in preset(name).get("loras", {})]
    own += ["refine.base=B"] if "base" in preset(name) else []
    overrides = ["refine=img2img", f"+refine/model={name}", "refine.model=DIR", f"write.root={tmp_path}", *own]
    told = configure.compose("dice", [*overrides, "refine.prompt=x"]).stages["refine"]
    expected = preset(name) | {"prompt": "x", "model": "DIR"}
    assert {key: told[key] for key in expected if key not in ("loras", "base")} == {
        key: value for key, value in expected.items() if key not in ("loras", "base")
    }
    assert list(configure.compose("dice", overrides).stages) == ["refine", "gate"]
    Img2Img(**{key: value for key, value in told.items() if key != "_target_"})
