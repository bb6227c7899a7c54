"""LoRA stacks against diffusers' own loading of adapters, and against LoRA run beside its layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import ConfigError, InputError, SecurityError
from synthaug.models import loras, schedulers
from synthaug.models.loras import Lora
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Img2ImgModel, Request, open_img2img
from synthaug.models.schedulers import Scheduler
from tests.models.families import build_flux, build_sdxl
from tests.models.tiny_additions import PROJECTIONS, beside, kohya, layers, lora_tensors, save

torch.set_num_threads(1)
TEXTS = ("text_encoder",)
BOTH = ("text_encoder", "text_encoder_2")


def opened(folder: Path) -> Img2ImgModel:
    return open_img2img(folder, device="cpu", dtype="float32")


def pipe_of(model: Img2ImgModel) -> Any:
    return model._pipe  # pyright: ignore[reportPrivateUsage]


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdxl(tmp_path_factory.mktemp("xl") / "xl")


@pytest.fixture(scope="module")
def file(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tensors = lora_tensors(pipe_of(opened(tiny_sd)), parts=("unet", *TEXTS))
    return save(tmp_path_factory.mktemp("lora") / "grain.safetensors", tensors)


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(0))


def run(model: Img2ImgModel, images: torch.Tensor | None = None, **more: Any) -> torch.Tensor:
    images = pictures() if images is None else images
    asked = [Request("a b", "", 0.5, 10 + i) for i in range(len(images))]
    return model(images, asked, **{"steps": 4, "guidance": 4.0, **more}).images


def weights(pipe: Any, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {f"{part}.{key}": value for part in parts for key, value in getattr(pipe, part).state_dict().items()}


def peft_metadata(pipe: Any, parts: tuple[str, ...], alpha: float) -> dict[str, Any]:
    """As diffusers writes it beside adapters that it saves."""
    names = {part: sorted(layers(pipe, part, PROJECTIONS)) for part in parts}
    return {f"{part}.lora_alpha": alpha for part in parts} | {
        f"{part}.{key}": value for part in parts for key, value in (("r", 2), ("target_modules", names[part]))
    }


STYLES: dict[str, Callable[[Any, tuple[str, ...], Path], Path]] = {
    "diffusers": lambda pipe, parts, path: save(path, lora_tensors(pipe, parts=parts)),
    "kohya": lambda pipe, parts, path: save(path, kohya(lora_tensors(pipe, parts=parts), 1.0)),
    "metadata": lambda pipe, parts, path: save(
        path, lora_tensors(pipe, parts=parts), lora_adapter_metadata=peft_metadata(pipe, parts, 0.5)
    ),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("base", ["sd", "xl"])
def test_merged_weights_are_those_of_diffusers_to_the_bit(
    tiny_sd: Path, xl: Path, tmp_path: Path, base: str, style: str
) -> None:
    pytest.importorskip("peft", reason="diffusers loads adapters by peft, which we do without")
    folder, texts = (tiny_sd, TEXTS) if base == "sd" else (xl, BOTH)
    parts = ("unet",) if style == "metadata" else ("unet", *texts)
    ours, theirs, plain = (pipe_of(opened(folder)) for _ in range(3))
    path = STYLES[style](plain, parts, tmp_path / "one.safetensors")
    assert loras.merge(ours, [Lora("x", str(path), 0.7)]) == len(lora_tensors(plain, parts=parts)) // 2
    theirs.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name="x", local_files_only=True)
    theirs.set_adapters(["x"], [0.7])
    theirs.fuse_lora(components=list(parts))
    theirs.unload_lora_weights()
    before, mine, other = (weights(pipe, ("unet", *texts)) for pipe in (plain, ours, theirs))
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[key], other[key]) for key in mine)
    for part in parts:
        assert any(not torch.equal(mine[key], before[key]) for key in mine if key.startswith(f"{part}.")), part


@settings(max_examples=5, deadline=None)
@given(first=st.floats(-4, 4), second=st.floats(-1, 1))
def test_a_stack_is_its_loras_run_beside_the_layers(
    tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path, first: float, second: float
) -> None:
    plain, merged = opened(tiny_sd), opened(tiny_sd)
    stack = [lora_tensors(pipe_of(plain), seed=seed, size=0.05, parts=("unet", *TEXTS)) for seed in (1, 2)]
    root = tmp_path_factory.mktemp("stack")
    files = [str(save(root / f"{i}.safetensors", tensors)) for i, tensors in enumerate(stack)]
    loras.merge(pipe_of(merged), [Lora("a", files[0], first), Lora("b", files[1], second)])
    undo = [beside(pipe_of(plain), tensors, w) for tensors, w in zip(stack, (first, second), strict=True)]
    expected = run(plain)
    for one in undo:
        one()
    assert (run(merged) - expected).abs().max() < 1e-3


def test_weight_zero_is_the_base_to_the_bit_and_another_is_not(tiny_sd: Path, file: Path) -> None:
    base, idle, used = (opened(tiny_sd) for _ in range(3))
    assert loras.merge(pipe_of(idle), [Lora("x", str(file), 0.0)]) == 0
    loras.merge(pipe_of(used), [Lora("x", str(file), 1.0)])
    assert torch.equal(run(base), run(idle))
    assert not torch.equal(run(base), run(used))


def test_a_picture_depends_on_itself_alone_with_a_stack(tiny_sd: Path, file: Path) -> None:
    model = opened(tiny_sd)
    loras.merge(pipe_of(model), [Lora("x", str(file), 0.8)])
    images = pictures(3)
    assert torch.equal(run(model, images[:2])[0], run(model, images[[0, 2]])[0])


def test_names_do_not_matter_to_the_bytes_only_files_and_weights(tiny_sd: Path, file: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "b.safetensors", lora_tensors(pipe_of(opened(tiny_sd)), seed=9))
    given = {"a": {"path": str(file), "weight": 0.3}, "b": {"path": str(other)}}
    stacks = [loras.parse(given), loras.parse(dict(reversed(given.items())))]
    assert stacks[0] == stacks[1]
    assert [one.weight for one in stacks[0]] == [0.3, 1.0]


def test_an_lcm_adapter_in_our_loop_is_that_of_diffusers_own_pipeline(xl: Path, tmp_path: Path) -> None:
    few_steps(xl, tmp_path, Scheduler("lcm"), guidance=1.0)


def test_so_is_a_lightning_adapter(xl: Path, tmp_path: Path) -> None:
    few_steps(xl, tmp_path, Scheduler("euler", trailing=True), guidance=0.0)


def few_steps(xl: Path, tmp_path: Path, scheduler: Scheduler, guidance: float) -> None:
    pytest.importorskip("peft", reason="diffusers loads adapters by peft, which we do without")
    ours, theirs = opened(xl), pipe_of(opened(xl))
    path = save(tmp_path / "few.safetensors", lora_tensors(theirs, size=0.1))
    loras.merge(pipe_of(ours), [Lora("few", str(path), 1.0)])
    schedulers.install(pipe_of(ours), scheduler, 4)
    theirs.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name="few", local_files_only=True)
    more = {"timestep_spacing": "trailing"} if scheduler.trailing else {}
    theirs.scheduler = type(pipe_of(ours).scheduler).from_config(theirs.scheduler.config, **more)
    images, noise = pictures(), SampleNoise([10, 11])
    with torch.inference_mode(), noise:
        expected = theirs(
            prompt=["a b"] * 2, image=images, strength=0.5, num_inference_steps=4, guidance_scale=guidance,
            generator=noise.tokens, output_type="pt",
        ).images  # fmt: skip
    found = run(ours, guidance=guidance)
    assert (found - expected).abs().max() < 1e-4
    assert (found - run(opened(xl), guidance=guidance)).abs().max() > 1e-3


def test_a_lora_for_another_base_names_the_file_and_both_widths(tiny_sd: Path, xl: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "xl.safetensors", lora_tensors(pipe_of(opened(xl))))
    pipe = pipe_of(opened(tiny_sd))
    before = {key: value.clone() for key, value in weights(pipe, ("unet",)).items()}
    good = save(tmp_path / "good.safetensors", lora_tensors(pipe))
    with pytest.raises(ConfigError, match=r"(?s)'grain' .*xl\.safetensors.*another base.*32 to \d+ channels.*16 to"):
        loras.merge(pipe, [Lora("fine", str(good)), Lora("grain", str(path))])
    after = weights(pipe, ("unet",))
    assert all(torch.equal(before[key], after[key]) for key in before), "changed, though it was refused"


def test_a_lora_of_layers_that_are_not_there_is_refused_even_at_weight_zero(tiny_sd: Path, tmp_path: Path) -> None:
    pipe = pipe_of(opened(tiny_sd))
    tensors = {key.replace("attn1", "attn7"): value for key, value in lora_tensors(pipe).items()}
    path = save(tmp_path / "x.safetensors", tensors)
    with pytest.raises(ConfigError, match="has no such layer"):
        loras.merge(pipe, [Lora("x", str(path), 0.0)])


def test_a_lora_of_flux_goes_to_its_transformer(tmp_path: Path) -> None:
    model = opened(build_flux(tmp_path / "flux"))
    tensors = lora_tensors(pipe_of(model), parts=("transformer",), size=0.1)
    base = run(model, guidance=1.0)
    assert loras.merge(pipe_of(model), [Lora("x", str(save(tmp_path / "x.safetensors", tensors)))]) > 0
    assert not torch.equal(base, run(model, guidance=1.0))


STRANGE = [
    ({"unet.a.lora_magnitude_vector": torch.ones(2)}, "DoRA"),
    ({"lora_unet_a.hada_w1_a": torch.ones(2, 2)}, "LoHa"),
    ({"lora_unet_a.lokr_w1": torch.ones(2, 2)}, "LoKr"),
    ({"something": torch.ones(2, 2)}, "(in no format|no pairs)"),
    ({"unet.conv_in.lora_A.weight": torch.ones(2, 4)}, "no pairs"),
]


@pytest.mark.parametrize(("tensors", "told"), STRANGE)
def test_what_is_no_plain_lora_is_refused(
    tiny_sd: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        loras.merge(pipe_of(opened(tiny_sd)), [Lora("x", str(save(tmp_path / "x.safetensors", tensors)))])


@pytest.mark.security
def test_settings_in_the_metadata_reach_no_library(tiny_sd: Path, tmp_path: Path) -> None:
    """peft imports the module that `megatron_core` names; ours are read as numbers, by name."""
    pipe = pipe_of(opened(tiny_sd))
    bad = {"unet.megatron_config": {"a": 1}, "unet.megatron_core": "antigravity", "unet.lora_alpha": 2}
    path = save(tmp_path / "x.safetensors", lora_tensors(pipe), lora_adapter_metadata=bad)
    assert loras.merge(pipe, [Lora("x", str(path))]) > 0
    broken = save(tmp_path / "y.safetensors", lora_tensors(pipe), lora_adapter_metadata="{")
    with pytest.raises(InputError, match="is not JSON"):
        loras.merge(pipe, [Lora("x", str(broken))])
    dora = save(tmp_path / "z.safetensors", lora_tensors(pipe), lora_adapter_metadata={"unet.use_dora": True})
    with pytest.raises(ConfigError, match="DoRA"):
        loras.merge(pipe, [Lora("x", str(dora))])


@pytest.mark.security
def test_only_safetensors_by_content_and_folders_of_plain_data(tiny_sd: Path, file: Path, tmp_path: Path) -> None:
    pickled = tmp_path / "x.safetensors"
    pickled.write_bytes(b"\x80\x04\x95" + b"x" * 64)
    with pytest.raises(SecurityError, match="not safetensors"):
        Lora("x", str(pickled)).digest()
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"no \.safetensors file"):
        Lora("x", str(tmp_path / "x.bin")).digest()
    with pytest.raises(SecurityError, match="not plain data"):
        Lora("x", str(tmp_path)).digest()
    cut = tmp_path / "cut" / "x.safetensors"
    cut.parent.mkdir()
    cut.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match="truncated"):
        loras.merge(pipe_of(opened(tiny_sd)), [Lora("x", str(cut))])


def test_a_folder_means_the_one_file_in_it(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    with pytest.raises(ConfigError, match="holds 0 safetensors"):
        Lora("x", str(folder)).digest()
    (folder / "a.safetensors").write_bytes(file.read_bytes())
    assert Lora("x", str(folder)).digest() == Lora("y", str(file)).digest()
    (folder / "b.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match=r"a\.safetensors, b\.safetensors"):
        Lora("x", str(folder)).digest()
    with pytest.raises(ConfigError, match="no such file"):
        Lora("x", str(tmp_path / "none")).digest()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"x": {"path": "a", "weight": 4.5}}, r"'x' weight=4\.5: expected -4 to 4"),
        ({"x": {"path": "a", "weight": float("nan")}}, "weight=nan"),
        ({"x": {"path": "a", "weight": True}}, "weight=True"),
        ({"x": {"path": "a", "wieght": 1}}, "Did you mean 'weight'"),
        ({"x": {"weight": 1}}, "no path"),
        ({"x": "a"}, r"loras\.x=a: expected"),
        (["a"], "loras="),
    ],
)
def test_configuration_that_is_none_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        loras.parse(given)


def test_none_takes_out_what_a_base_put_in() -> None:
    assert loras.parse({"x": None}) == ()
