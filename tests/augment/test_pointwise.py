"""Tone curves: closed forms, monotony, and the one-table path of the engine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.augment.pointwise import BrightnessContrast, ColourBalance, Gamma, ToneCurve
from synthaug.contracts import Pointwise
from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.seeds import from_seed

STAGES: tuple[Pointwise, ...] = (
    BrightnessContrast(),
    BrightnessContrast(pivot=0.0),
    Gamma(),
    ColourBalance(),
    ToneCurve(strength=0.5),
    ToneCurve(per_channel=True),
)
RAMP = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, axis=1)


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: type(s).__name__)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**62))
def test_curves_are_monotone_and_float32(stage: Pointwise, seed: int) -> None:
    draw = stage.draw(from_seed(seed), Labels((4, 4)), 0)
    assert json.loads(json.dumps(draw)) == draw
    values = stage.curve(RAMP, draw)
    assert values.dtype == np.float32
    assert values.shape == RAMP.shape
    assert (np.diff(values, axis=0) >= -1e-6).all()


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: type(s).__name__)
def test_painting_equals_the_curve(stage: Pointwise) -> None:
    draw = stage.draw(from_seed(5), Labels((16, 16)), 0)
    image = RAMP.T.reshape(1, 3, 16, 16).copy()
    painted = stage.paint(image, [Labels((16, 16))], [draw])
    assert np.array_equal(painted[0].reshape(3, -1).T, np.clip(stage.curve(RAMP, draw), 0, 1))


def test_closed_forms() -> None:
    half = np.full((1, 3), 0.5, np.float32)
    assert BrightnessContrast().curve(half, {"brightness": 0.1, "contrast": 3.0}) == pytest.approx(0.6)
    assert BrightnessContrast(pivot=0.0).curve(half, {"brightness": 0.1, "contrast": 0.5}) == pytest.approx(0.35)
    assert Gamma().curve(half, {"gamma": 2.0}) == pytest.approx(0.25)
    assert ColourBalance().curve(half, {"gains": [2.0, 1.0, 0.5]})[0] == pytest.approx([1.0, 0.5, 0.25])
    bow = ToneCurve().curve(half, {"s": [0.3] * 3, "bow": [0.2] * 3})
    assert bow == pytest.approx(0.5 + 0.2 / np.pi)


def test_tone_curve_keeps_black_and_white_where_they_are() -> None:
    ends = np.array([[0, 0, 0], [1, 1, 1]], np.float32)
    curved = ToneCurve().curve(ends, {"s": [0.4, -0.4, 0.1], "bow": [0.5, -0.5, 0.2]})
    assert curved == pytest.approx(ends, abs=1e-6)


def test_colour_balance_keeps_brightness() -> None:
    stage = ColourBalance(gain=[0.5, 2.0])
    for seed in range(20):
        assert np.prod(stage.draw(from_seed(seed), Labels((4, 4)), 0)["gains"]) == pytest.approx(1.0)


def test_tone_curve_is_one_curve_unless_asked() -> None:
    draw = ToneCurve().draw(from_seed(3), Labels((4, 4)), 0)
    assert len(set(draw["s"])) == 1
    assert len(set(ToneCurve(per_channel=True).draw(from_seed(3), Labels((4, 4)), 0)["s"])) == 3


def test_arguments_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"gamma\[0\] is 0"):
        Gamma(gamma=[0, 1])
    with pytest.raises(ConfigError, match=r"strength is 0\.7"):
        ToneCurve(strength=0.7)
    with pytest.raises(ConfigError, match=r"contrast\[1\] is 9"):
        BrightnessContrast(contrast=[1, 9])
    with pytest.raises(ConfigError, match="gain is 'high'"):
        ColourBalance(gain="high")  # type: ignore[arg-type]
