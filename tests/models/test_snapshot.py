"""Model folders: what is refused, and that nothing in a refused folder ever ran."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from synthaug.errors import ConfigError, InputError, SecurityError
from synthaug.models.pipelines import open_img2img
from synthaug.models.snapshot import inspect, weights_digest

pytestmark = pytest.mark.security
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tiny_sd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_sd, tmp_path / "model"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.canary),))


def code(canary: Path) -> str:
    return f"import os\nos.mkdir({str(canary)!r})\n"


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def lock(model: Path) -> None:
    files = {
        p.relative_to(model).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in model.rglob("*")
        if p.is_file()
    }
    (model / "synthaug.lock.json").write_text(json.dumps({"commit": "0" * 40, "files": files}))


def refused(model: Path, canary: Path, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        open_img2img(model, device="cpu", dtype="float32")
    assert not canary.exists()


def test_payload_would_fire(canary: Path) -> None:
    pickle.loads(pickle.dumps(Payload(canary)))  # noqa: S301 - the proof that the payload works
    assert canary.exists()


def test_clean_folder_passes_with_a_stable_digest(model: Path, tiny_sd: Path) -> None:
    snapshot = inspect(model)
    assert snapshot.family.name == "Stable Diffusion 1/2"
    assert snapshot.components["unet"] == "UNet2DConditionModel"
    assert weights_digest(model) == weights_digest(tiny_sd)
    (model / "README.md").write_text("words change nothing")
    assert weights_digest(model) == snapshot.digest


def test_digest_sees_one_flipped_bit(model: Path) -> None:
    before = weights_digest(model)
    data = bytearray((model / UNET).read_bytes())
    data[-1] ^= 1
    (model / UNET).write_bytes(data)
    assert weights_digest(model) != before


@pytest.mark.parametrize(
    "name", ["unet/w.bin", "w.ckpt", "vae/w.pt", "w.pth", "w.pkl", "w.npz", "x.so", "n.ipynb", "w.unknown"]
)
def test_c8_files_that_are_no_data(model: Path, canary: Path, name: str) -> None:
    (model / name).write_bytes(pickle.dumps(Payload(canary)))
    refused(model, canary, SecurityError, name)


def test_c8_weights_only_as_bin(model: Path, canary: Path) -> None:
    (model / UNET).unlink()
    (model / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload(canary)))
    refused(model, canary, SecurityError, "diffusion_pytorch_model.bin")


def test_c8_pickle_renamed_safetensors(model: Path, canary: Path) -> None:
    (model / UNET).write_bytes(pickle.dumps(Payload(canary)))
    refused(model, canary, SecurityError, "not safetensors")


def test_c8_torch_zip_renamed_safetensors(model: Path, canary: Path) -> None:
    with zipfile.ZipFile(model / UNET, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))
    refused(model, canary, SecurityError, "not safetensors")


def test_c8_header_with_overlapping_tensors(model: Path, canary: Path) -> None:
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"a": tensor, "b": tensor}).encode()
    (model / UNET).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    refused(model, canary, SecurityError, "overlap")


@pytest.mark.parametrize("cut", [1, 1000])
def test_c7_truncated_weights_without_a_lock(model: Path, canary: Path, cut: int) -> None:
    (model / UNET).write_bytes((model / UNET).read_bytes()[:-cut])
    refused(model, canary, InputError, f"{UNET} is truncated")


def test_c7_lock_holds(model: Path) -> None:
    lock(model)
    assert inspect(model).digest


def test_c7_altered_weights_name_file_and_both_hashes(model: Path, canary: Path) -> None:
    lock(model)
    before = hashlib.sha256((model / UNET).read_bytes()).hexdigest()
    data = bytearray((model / UNET).read_bytes())
    data[-1] ^= 1
    (model / UNET).write_bytes(data)
    refused(model, canary, InputError, f"(?s){UNET}.*{hashlib.sha256(data).hexdigest()}.*{before}")


def test_c7_missing_and_unknown_files(model: Path, canary: Path) -> None:
    lock(model)
    (model / "unet/extra.txt").write_text("x")
    refused(model, canary, InputError, "extra.txt")
    (model / "unet/extra.txt").unlink()
    (model / "vae/config.json").unlink()
    refused(model, canary, InputError, "vae/config.json")


def test_c9_pipeline_py(model: Path, canary: Path) -> None:
    (model / "pipeline.py").write_text(code(canary))
    edit(model / "model_index.json", _class_name=["pipeline", "Custom"])
    refused(model, canary, SecurityError, "pipeline.py")


def test_c9_unknown_pipeline_class_is_named(model: Path, canary: Path) -> None:
    edit(model / "model_index.json", _class_name="StableDiffusionPipelin")
    refused(model, canary, SecurityError, "'StableDiffusionPipelin'.*Did you mean 'StableDiffusionPipeline'")


def test_c9_custom_component(model: Path, canary: Path) -> None:
    (model / "unet" / "my_unet.py").write_text(code(canary))
    edit(model / "model_index.json", unet=["my_unet", "MyUNet"])
    refused(model, canary, SecurityError, "my_unet.py")
    (model / "unet" / "my_unet.py").unlink()
    refused(model, canary, SecurityError, "'MyUNet'")


@pytest.mark.parametrize("library", ["os", "unet", None, "transformers"])
def test_c9_known_class_of_another_library(model: Path, canary: Path, library: str | None) -> None:
    edit(model / "model_index.json", unet=[library, "UNet2DConditionModel"])
    refused(model, canary, SecurityError, "UNet2DConditionModel")


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("text_encoder/config.json", "auto_map"),
        ("tokenizer/tokenizer_config.json", "auto_map"),
        ("unet/config.json", "_attn_implementation_internal"),
        ("text_encoder/config.json", "trust_remote_code"),
        ("model_index.json", "custom_pipeline"),
    ],
)
def test_c9_fields_that_ask_for_code(model: Path, canary: Path, file: str, field: str) -> None:
    edit(model / file, **{field: {"AutoModel": "code.Model"}})
    refused(model, canary, SecurityError, field)


def test_c9_nested_field(model: Path, canary: Path) -> None:
    edit(model / "text_encoder/config.json", text_config={"vision": [{"auto_map": {}}]})
    refused(model, canary, SecurityError, "auto_map")


def test_links_are_refused(model: Path, canary: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text("{}")
    (model / "unet" / "more.json").symlink_to(tmp_path / "outside.json")
    refused(model, canary, SecurityError, "more.json .a link")


def test_weight_map_may_not_climb(model: Path, canary: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}
    (model / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    refused(model, canary, SecurityError, "weight_map")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1, "a": 2}', "{", "[" * 100_000])
def test_bad_json(model: Path, canary: Path, text: str) -> None:
    (model / "unet/config.json").write_text(text)
    refused(model, canary, InputError, "unet/config.json")


def test_family_that_cannot_serve_is_named(model: Path, canary: Path) -> None:
    edit(model / "model_index.json", _class_name="QwenImageLayeredPipeline")
    refused(model, canary, ConfigError, "splits a picture into layers")


def test_no_folder_and_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        inspect(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no model_index\.json"):
        inspect(tmp_path)
    (tmp_path / "refiner.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"base=.*this is a refiner, which refine=restore runs"):
        inspect(tmp_path, word="base")


def test_missing_component_folder(model: Path, canary: Path) -> None:
    shutil.rmtree(model / "vae")
    refused(model, canary, InputError, "vae")


def _edit_option(model: Path) -> None:
    edit(model / "model_index.json", requires_safety_checker={"a": 1})


def _edit_name(model: Path) -> None:
    edit(model / "model_index.json", **{"../unet": ["diffusers", "UNet2DConditionModel"]})


@pytest.mark.parametrize("change", [_edit_option, _edit_name])
def test_odd_entries_of_the_index(model: Path, canary: Path, change: Callable[[Path], None]) -> None:
    change(model)
    refused(model, canary, SecurityError, "neither a component nor a known option")


def test_an_adapter_cannot_send_the_loader_elsewhere(model: Path, tmp_path: Path) -> None:
    """transformers takes the base's weights from where `adapter_config.json` says, if no config.json stands there."""
    elsewhere = tmp_path / "elsewhere"
    (model / "text_encoder").rename(elsewhere)
    (model / "text_encoder").mkdir()
    told = {"base_model_name_or_path": str(elsewhere), "peft_type": "LORA", "target_modules": ["q_proj"]}
    (model / "text_encoder" / "adapter_config.json").write_text(json.dumps(told))
    with pytest.raises(SecurityError, match=r"adapter_config.*nobody has checked"):
        inspect(model)
