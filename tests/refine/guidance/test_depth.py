"""Depth: near is white, far and sky are black, ranges are recorded, sequences keep their greys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.refine.guidance.depth import Depth
from tests.refine.guidance.scenes import GREY, ball, only


def of(z: np.ndarray) -> Labels:
    return Labels(z.shape, (), (), {"depth": z.astype(np.float32)})  # type: ignore[arg-type]


def test_the_formula_at_known_depths() -> None:
    row = of(np.array([[0.5, 1.0, 2.0, 4.0, 8.0, np.nan]]))
    inverse = Depth(near=1.0, far=4.0).guide(row, GREY).image
    np.testing.assert_allclose(inverse[0, 0], [1, 1, (1 / 2 - 1 / 4) / (1 - 1 / 4), 0, 0, 0], atol=1e-6)
    linear = Depth(law="linear", near=1.0, far=4.0).guide(row, GREY).image
    np.testing.assert_allclose(linear[0, 0], [1, 1, 2 / 3, 0, 0, 0], atol=1e-6)


@given(
    z=hnp.arrays(np.float32, (7, 9), elements=st.floats(2**-7, 2**13, width=32) | st.just(np.nan)),
    law=st.sampled_from(["inverse", "linear"]),
)
def test_nearer_is_never_darker(z: np.ndarray, law: str) -> None:
    guide = Depth(law=law).guide(of(z), GREY)
    image = guide.image
    assert image.shape == (3, 7, 9)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert (image[0] == image[1]).all()
    assert (image[0][np.isnan(z)] == 0).all()
    order = np.argsort(z[np.isfinite(z)], kind="stable")
    assert (np.diff(image[0][np.isfinite(z)][order]) <= 0).all()
    if np.isfinite(z).any():
        assert guide.facts["near"] <= guide.facts["far"]


def test_range_is_measured_and_recorded_and_robust() -> None:
    z = np.linspace(2.0, 4.0, 10_000).reshape(100, 100)
    z[0, :5] = 0.001
    z[0, 5:9] = 1e6
    guide = Depth().guide(of(z), GREY)
    assert guide.facts["near"] == pytest.approx(2.02, abs=0.01)
    assert guide.facts["far"] == pytest.approx(3.98, abs=0.01)
    assert guide.image[0, 0, 0] == 1
    assert guide.image[0, 0, 6] == 0
    full = Depth(percentiles=(0, 100)).guide(of(z), GREY)
    assert np.median(full.image) < 0.01, "the stretch to extremes leaves the scene no contrast"


def test_a_surface_keeps_its_grey_over_a_sequence_only_with_a_fixed_range() -> None:
    frames = [np.full((8, 8), 3.0), np.full((8, 8), 3.0)]
    frames[0][:, 4:], frames[1][:, 4:] = 6.0, 30.0
    fixed = [Depth(near=1, far=40).guide(of(z), GREY).image[0, 0, 0] for z in frames]
    assert fixed[0] == fixed[1]
    linear = [Depth(law="linear", near=1).guide(of(z), GREY).image[0, 0, 0] for z in frames]
    assert linear[0] != linear[1]


def test_one_single_depth_and_none_at_all() -> None:
    assert (Depth().guide(of(np.full((4, 4), 2.5)), GREY).image == 0.5).all()
    empty = Depth().guide(of(np.full((4, 4), np.nan)), GREY)
    assert (empty.image == 0).all()
    assert empty.facts["near"] is None
    assert empty.facts["valid"] == 0


def test_one_bound_beyond_the_picture() -> None:
    z = np.linspace(2, 3, 16).reshape(4, 4)
    assert (Depth(near=5.0).guide(of(z), GREY).image == 1).all()
    assert (Depth(far=1.0).guide(of(z), GREY).image == 0).all()


def test_position_gives_the_same_image() -> None:
    labels = ball(sky=False)
    direct = Depth().guide(only(labels, "depth"), GREY)
    derived = Depth().guide(only(labels, "position"), GREY)
    np.testing.assert_array_equal(direct.image, derived.image)
    assert derived.facts["from"] == "position"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"law": "invers"}, "Did you mean 'inverse'"),
        ({"near": 0.0}, "near=0.0"),
        ({"far": float("inf")}, "far=inf"),
        ({"near": 2.0, "far": 1.0}, "near < far"),
        ({"percentiles": (50, 50)}, "percentiles"),
        ({"percentiles": (1, 2, 3)}, "percentiles"),
    ],
)
def test_ranges_are_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Depth(**fields)  # type: ignore[arg-type]
