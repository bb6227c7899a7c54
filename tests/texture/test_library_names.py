"""Which files make one texture, by their names; and which material a name suggests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import ConfigError
from synthaug.texture.materials import Materials, suggested
from synthaug.texture.suffixes import grouped


def kinds(*paths: str) -> dict[str, dict[str, str]]:
    return {group.name: {claim.kind: claim.path for claim in group.maps} for group in grouped(paths).groups}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("oak_albedo.png", "albedo"),
        ("oak_diffuse_2k.jpg", "albedo"),
        ("oak_BaseColor.png", "albedo"),
        ("oak_base_color.png", "albedo"),
        ("oak.png", "albedo"),
        ("oak_1K-JPG_Color.jpg", "albedo"),
        ("oak_nor_gl_2k.png", "normal"),
        ("oak_1K_NormalGL.png", "normal"),
        ("oakNormal.png", "normal"),
        ("oak_disp_4k.png", "height"),
        ("oak_AmbientOcclusion.png", "occlusion"),
        ("oak-ao.png", "occlusion"),
        ("oak rough.png", "roughness"),
        ("oak_metallic.png", "metalness"),
        ("oak_opacity_1024.png", "opacity"),
    ],
)
def test_habits_of_naming(name: str, kind: str) -> None:
    base = [] if kind == "albedo" else ["oak_color.png"]
    assert kinds(*base, name)["oak"][kind] == name


def test_numbers_and_words_that_only_look_like_maps_stay_names() -> None:
    found = kinds("wood_001.png", "normal_street.png", "door_steel_grey.png", "metal.png", "SpotlightDiffuse_01.png")
    assert found == {
        "wood_001": {"albedo": "wood_001.png"},
        "normal_street": {"albedo": "normal_street.png"},
        "door_steel_grey": {"albedo": "door_steel_grey.png"},
        "metal": {"albedo": "metal.png"},
        "SpotlightDiffuse_01": {"albedo": "SpotlightDiffuse_01.png"},
    }


def test_a_folder_of_maps_is_one_texture() -> None:
    found = kinds("walls/old/albedo.png", "walls/old/normal.png", "walls/new/albedo.png")
    assert found == {
        "walls/old": {"albedo": "walls/old/albedo.png", "normal": "walls/old/normal.png"},
        "walls/new": {"albedo": "walls/new/albedo.png"},
    }


def test_a_plain_file_takes_the_maps_of_its_name() -> None:
    assert kinds("brick.png", "Brick_normal.png") == {"brick": {"albedo": "brick.png", "normal": "Brick_normal.png"}}


def test_further_albedos_are_textures_of_their_own() -> None:
    groups = grouped(["cloth.jpg", "cloth.png", "cloth_height.png", "oak_diffuse.png", "oak_albedo.png"]).groups
    assert [[claim.path for claim in group.maps] for group in groups] == [
        ["cloth.jpg", "cloth_height.png"],
        ["cloth.png"],
        ["oak_albedo.png"],
        ["oak_diffuse.png"],
    ]


def test_what_is_no_map_of_a_texture_is_named_with_its_reason() -> None:
    left = grouped(
        ["a_height.png", "b.png", "b_mask.png", "b_arm.png", "b_normal.png", "b_nor.png", "b_emissive.png"]
    ).left
    assert sorted(left) == ["a_height.png", "b_arm.png", "b_emissive.png", "b_mask.png", "b_normal.png"]
    assert "put a_albedo beside it, or say names=no" in left["a_height.png"]
    assert "b_nor.png is taken" in left["b_normal.png"]
    assert "split its channels" in left["b_arm.png"]


def test_green_that_points_up_wins_over_green_that_points_down() -> None:
    both = grouped(["a.png", "a_NormalDX.png", "a_NormalGL.png"])
    assert [c.path for c in both.groups[0].maps] == ["a.png", "a_NormalGL.png"]
    assert list(both.left) == ["a_NormalDX.png"]
    alone = grouped(["a.png", "a_NormalDX.png"]).groups[0].maps[1]
    assert alone.downward


def test_gloss_is_roughness_turned_round() -> None:
    claim = grouped(["a.png", "a_gloss.png"]).groups[0].maps[1]
    assert (claim.kind, claim.inverted) == ("roughness", True)


words = st.sampled_from(
    ["a", "b", "albedo", "normal", "normalDX", "gl", "mask", "Gloss", "2k", "01", "ao", "BaseColor"]
)
names = st.builds(
    lambda folder, parts, suffix: f"{folder}{'_'.join(parts)}.{suffix}",
    st.sampled_from(["", "x/", "x/y/"]),
    st.lists(words, min_size=1, max_size=4),
    st.sampled_from(["png", "jpg"]),
)


@given(st.sets(names, max_size=12), st.booleans())
def test_no_file_is_lost_and_none_is_taken_twice(paths: set[str], read_names: bool) -> None:
    found = grouped(paths, read_names=read_names)
    taken = [claim.path for group in found.groups for claim in group.maps]
    assert sorted([*taken, *found.left]) == sorted(paths)
    assert all(group.maps[0].kind == "albedo" for group in found.groups)
    assert all(len({c.kind for c in group.maps}) == len(group.maps) for group in found.groups)
    assert found == grouped(sorted(paths, reverse=True), read_names=read_names)


@pytest.mark.parametrize(
    ("name", "material"),
    [
        ("wood_planks_1", "wood"),
        ("airduct_grate_1", "metal"),
        ("aws_RetailShopWall_01", "plaster"),
        ("BrickWall", "brick"),
        ("metal/window_3", "glass"),
        ("metal/x1", "metal"),
        ("door_doom_1", "unknown"),
        ("steal", "unknown"),
    ],
)
def test_a_name_suggests_a_material(name: str, material: str) -> None:
    assert suggested(name) == material


def test_materials_are_read_from_configuration() -> None:
    found = Materials.parse(
        {"car": {"metal": 2, "Paint": 1}, "crate": "wood", "floor": ["wood", "stone"], "man": None, "*": "*"}
    )
    assert found.of("car") == {"metal": 2.0, "paint": 1.0}
    assert found.of("crate") == {"wood": 1.0}
    assert found.of("floor") == {"stone": 1.0, "wood": 1.0}
    assert found.of("man") == {}
    assert found.of("tree") == {"*": 1.0}
    assert Materials.parse({"car": "metal"}).of("tree") == {}
    assert found.used() == ("*", "metal", "paint", "stone", "wood")


@pytest.mark.parametrize(
    "value",
    [None, {}, "wood", {"car": {}}, {"car": {"metal": 0}}, {"car": {"metal": "2"}}, {"car": {"metal": float("nan")}},
     {"car": {"metal": True}}, {"car": {"two words": 1}}, {"car": 3}, {"car": []}],
)  # fmt: skip
def test_other_shapes_are_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="materials"):
        Materials.parse(value)


def test_a_mapping_is_held_against_library_and_classes() -> None:
    found = Materials.parse({"car": {"metal": 1, "woood": 1}, "*": "*"})
    with pytest.raises(ConfigError, match=r"no texture of the library is of woood\. Did you mean 'wood'"):
        found.check(["metal", "wood"])
    with pytest.raises(ConfigError, match=r"no class is called 'car'\. Did you mean 'cars'"):
        Materials.parse({"car": "wood"}).check(["wood"], ["cars", "tree"])
    with pytest.raises(ConfigError, match="empty"):
        Materials.parse({"*": "*"}).check([])
    Materials.parse({"car": "wood"}).check(["wood"], ["car"])
