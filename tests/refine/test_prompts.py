"""Prompts: what stands in them, what is refused when they are configured, and what is encoded how often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug import seeds
from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.labels import Category, Instance, Labels
from synthaug.models.embeddings import EmbeddingCache
from synthaug.refine.prompts import Choices, Prompts, classes_of

CLASSES = (Category("car"), Category("person"), Category("traffic light"), Category("sky"))
BOX = (0.0, 0.0, 10.0, 4.0)


def scene() -> Labels:
    semantic = np.zeros((10, 10), np.int32)
    semantic[:5] = 4
    return Labels(
        (10, 10),
        CLASSES,
        (
            Instance(1, 2, (0.0, 0.0, 2.0, 4.0), attributes={"weather": "fog"}),
            Instance(2, 1, BOX, attributes={"weather": "rain"}),
            Instance(3, 1, BOX, attributes={"weather": "rain"}),
            Instance(4, 3, BOX, ignore=True, attributes={"weather": "fog"}),
        ),
        {"semantic": semantic},
    )


def drawn(prompts: Prompts, name: str = "a", **facts: object) -> str:
    return prompts.draw(seeds.generator(1, name, 0, "refine", 0), replace(scene(), attributes=facts)).prompt


def test_a_template_says_what_is_there() -> None:
    prompts = Prompts.parse(
        "a {weather} street with {classes}, {count} in all {{x}}",
        attributes={"weather": "clear"},
        phrases={"person": "a pedestrian", "sky": ""},
    )
    assert drawn(prompts) == "a rain street with car and a pedestrian, 3 in all {x}"
    assert drawn(prompts, weather="snowy").startswith("a snowy street")
    empty = prompts.draw(np.random.default_rng(0), Labels((4, 4), CLASSES)).prompt
    assert empty == "a clear street with nothing, 0 in all {x}"


def test_classes_come_by_area_and_not_beyond_the_most() -> None:
    assert classes_of(scene()) == ["car", "sky", "person"]
    assert drawn(Prompts.parse("{classes}", most_classes=1)) == "car"
    assert drawn(Prompts.parse("{classes}")) == "car, sky and person"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a {wether} street", r"unknown placeholder \{wether\}. Did you mean 'weather'"),
        ("{clases}", "Did you mean 'classes'"),
        ("{}", "no plain placeholder"),
        ("{classes.__class__}", "no plain placeholder"),
        ("{classes!r}", "no plain placeholder"),
        ("{count:>9999999}", "no plain placeholder"),
        ("a { street", r"write \{\{"),
    ],
)
@pytest.mark.parametrize("negative", [False, True])
def test_unknown_and_clever_placeholders_are_refused_at_configuration(
    template: str, words: str, negative: bool
) -> None:
    texts = ("fine", template) if negative else (template, "")
    with pytest.raises(ConfigError, match=words):
        Prompts.parse(*texts, words={"weather": ["clear"]})


def test_names_of_lists_and_of_classes_are_checked() -> None:
    for name in ("classes", "two words", ""):
        with pytest.raises(ConfigError, match="cannot be a placeholder"):
            Prompts.parse("x", words={name: ["a"]})
    with pytest.raises(ConfigError, match=r"no class 'cra'\. Did you mean 'car'"):
        Prompts.parse("x", phrases={"cra": "an automobile"}).check([c.name for c in CLASSES])
    with pytest.raises(ConfigError, match="most_classes=0"):
        Prompts.parse("x", most_classes=0)


def test_lists_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "weather.txt"
    file.write_text("# kinds of weather\nclear\n\n3\theavy rain\n", "utf-8")
    prompts = Prompts.parse("{weather}", words={"weather": f"@{file}"})
    assert prompts.words["weather"] == Choices(("clear", "heavy rain"), (1.0, 3.0))
    assert prompts.identity()["words.weather"] == [["clear", 1.0], ["heavy rain", 3.0]]
    file.write_text("much\tclear\n", "utf-8")
    with pytest.raises(InputError, match=r"weather.txt:1: 'much' is no weight"):
        Prompts.parse("{weather}", words={"weather": f"@{file}"})
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        Prompts.parse(f"@{file}")
    with pytest.raises((Rejected, InputError)):
        Prompts.parse(f"@{tmp_path / 'absent.txt'}")


@pytest.mark.parametrize("given", [[], {}, None, 3, {"a": 0}, {"a": -1}, {"a": float("inf")}, [3], {"a": True}])
def test_lists_that_are_none_are_refused(given: object) -> None:
    with pytest.raises(ConfigError):
        Choices.parse("prompt", given)


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_a_share_falls_where_the_weights_say(weights: list[float], share: float) -> None:
    texts = tuple(str(k) for k in range(len(weights)))
    found = int(Choices(texts, tuple(weights)).at(share))
    assert sum(weights[:found]) <= share * sum(weights) * (1 + 1e-9)
    assert share * sum(weights) <= sum(weights[: found + 1]) * (1 + 1e-9)


def test_weights_are_followed_and_draws_belong_to_the_sample() -> None:
    prompts = Prompts.parse({"day": 3, "night": 1})
    found = [drawn(prompts, str(k)) for k in range(400)]
    # Binomial with p = 3/4: four standard deviations are 35.
    assert abs(found.count("day") - 300) <= 35
    assert found == [drawn(prompts, str(k)) for k in range(400)]


def test_rewording_a_template_leaves_the_other_draws_alone() -> None:
    words = {"weather": ["clear", "rain", "fog", "snow"], "time": ["day", "night", "dusk"]}
    long, short = Prompts.parse("{weather} {time}", words=words), Prompts.parse("{time}", words=words)
    for k in range(20):
        assert drawn(long, str(k)).split()[1] == drawn(short, str(k))


def test_negative_prompts_are_drawn_too() -> None:
    prompts = Prompts.parse("a", ["blurry {weather}"], words={"weather": ["fog"]})
    assert prompts.draw(np.random.default_rng(0), scene()).negative == "blurry fog"
    assert prompts.negates
    assert not Prompts.parse("a").negates


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=6))
def test_each_unique_prompt_is_encoded_once_while_there_is_room(batches: list[list[int]]) -> None:
    cache = EmbeddingCache(str.upper, limit=10)
    for batch in batches:
        prompts = [f"p{n}" for n in batch]
        assert cache(prompts) == [p.upper() for p in prompts]
    assert cache.encodes == len({n for batch in batches for n in batch})


def test_the_cache_is_bounded_and_drops_what_was_not_used_for_longest() -> None:
    cache = EmbeddingCache(str.upper, limit=2)
    cache(["a", "b"])
    cache(["a"])
    cache(["c"])
    assert cache.encodes == 3
    cache(["a"])
    assert cache.encodes == 3
    cache(["b"])
    assert cache.encodes == 4
    assert cache(["d", "e", "f", "d"]) == ["D", "E", "F", "D"]
    assert cache.encodes == 7
    with pytest.raises(ConfigError):
        EmbeddingCache(str.upper, limit=0)
