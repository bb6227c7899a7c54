"""`synthaug fetch` against a host on this machine: what is taken, what is refused, what survives a cut."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

import synthaug
from synthaug import cli
from synthaug.engine import fetch as fetching
from synthaug.engine import hub, model_lock
from synthaug.engine.fetch import fetch
from synthaug.engine.fetch_words import understand
from synthaug.engine.hub import Hub, Remote
from synthaug.engine.model_files import choose
from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, InputError, Interrupted, Refusal, SecurityError
from synthaug.models import snapshot
from tests.engine.hub_host import COMMIT, REPOSITORY, Host, controlnet, safetensors

pytestmark = pytest.mark.security
WEIGHTS = "diffusion_pytorch_model.safetensors"
SECRET = "hf_never_shown"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(fetching, "PAUSES", (0.0, 0.0, 0.0))
    found = Host(controlnet())
    yield found
    found.close()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "model"


def bring(host: Host, into: Path, *more: str) -> int:
    return fetch(REPOSITORY, [f"revision={COMMIT}", f"into={into}", f"host={host.url}", *more])


def partial(into: Path) -> Path:
    return into.with_name(into.name + ".partial")


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*")}


def test_takes_plain_data_alone_and_locks_it(host: Host, into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bring(host, into) == 0
    assert names(into) == {"config.json", "sub", "sub/vocab.txt", WEIGHTS, "synthaug.lock.json"}
    assert all((into / n).read_bytes() == host.files[n] for n in ("config.json", "sub/vocab.txt", WEIGHTS))
    lock = json.loads((into / "synthaug.lock.json").read_text())
    assert (lock["repository"], lock["commit"], lock["host"]) == (REPOSITORY, COMMIT, host.url)
    assert lock["files"].keys() == {"config.json", "sub/vocab.txt", WEIGHTS}
    snapshot.inspect_part(into, ["ControlNetModel"])
    assert not partial(into).exists()
    assert host.names() == ["config.json", "sub/vocab.txt", WEIGHTS], "weights last, each once, never the pickle"
    shown = capsys.readouterr().err
    assert "3 files, 1.200 MB" in shown
    assert "left out: 2 files" in shown


def test_a_finished_fetch_is_checked_and_not_repeated(host: Host, into: Path) -> None:
    bring(host, into)
    host.seen.clear()
    assert bring(host, into) == 0
    assert not host.seen
    (into / "config.json").write_text("{}")
    with pytest.raises(InputError, match="truncated or altered"):
        bring(host, into)
    with pytest.raises(ConfigError, match="exists and is not this commit"):
        fetch(REPOSITORY, [f"revision={'0' * 40}", f"into={into}", f"host={host.url}"])


def test_a_folder_of_others_is_left_alone(host: Host, into: Path) -> None:
    into.mkdir()
    (into / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not this commit"):
        bring(host, into)
    assert not host.seen
    assert names(into) == {"mine.txt"}


def test_a_cut_line_is_resumed_where_it_broke(host: Host, into: Path) -> None:
    host.cut = [500_000, 1000]
    assert bring(host, into) == 0
    assert (into / WEIGHTS).read_bytes() == host.files[WEIGHTS]
    assert [span for path, span, _ in host.seen if path.endswith(WEIGHTS)] == ["", "bytes=500000-", "bytes=501000-"]


def test_a_host_that_does_not_resume_starts_over(host: Host, into: Path) -> None:
    host.ranges = False
    host.cut = [500_000]
    assert bring(host, into) == 0
    assert (into / WEIGHTS).read_bytes() == host.files[WEIGHTS]


def test_a_line_that_stays_cut_is_interrupted_and_the_same_command_goes_on(host: Host, into: Path) -> None:
    host.cut = [100_000, 0, 0, 0]
    with pytest.raises(Interrupted, match="the same command goes on") as caught:
        bring(host, into)
    assert caught.value.exit_status == 75
    assert not into.exists()
    host.seen.clear()
    assert bring(host, into) == 0
    assert host.names() == [WEIGHTS], "what was whole is not fetched again"
    assert host.seen[-1][1] == "bytes=100000-"
    assert (into / WEIGHTS).read_bytes() == host.files[WEIGHTS]
    assert not partial(into).exists()


def test_wrong_bytes_of_an_earlier_attempt_are_fetched_again(host: Host, into: Path) -> None:
    host.cut = [100_000, 0, 0, 0]
    with pytest.raises(Interrupted):
        bring(host, into)
    part = partial(into) / "model" / WEIGHTS
    part.write_bytes(bytes(100_000))
    assert bring(host, into) == 0
    assert (into / WEIGHTS).read_bytes() == host.files[WEIGHTS]


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_wrong_hashes_are_refused(host: Host, into: Path, name: str) -> None:
    def spoil(listing: dict[str, Any]) -> None:
        for row in listing["siblings"]:
            row["blobId"] = "0" * 40
            if "lfs" in row:
                row["lfs"]["sha256"] = "0" * 64

    host.spoil = spoil
    if name == WEIGHTS:
        del host.files["config.json"], host.files["sub/vocab.txt"]
    with pytest.raises(InputError, match=f"{name} is not what the listing promises: .*expected 0000"):
        bring(host, into)
    assert not into.exists()
    assert not (partial(into) / "model" / name).exists()


@pytest.mark.parametrize(("by", "error", "match"), [(-7, InputError, "more than"), (7, Interrupted, "the line ended")])
def test_other_sizes_than_listed(host: Host, into: Path, by: int, error: type[Exception], match: str) -> None:
    def spoil(listing: dict[str, Any]) -> None:
        for row in listing["siblings"]:
            row["size"] += by if row["rfilename"] == WEIGHTS else 0

    host.spoil = spoil
    host.ranges = by < 0
    with pytest.raises(error, match=match):
        bring(host, into)
    assert not into.exists()


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/../../b.json", "a\\b.json", "a//b.json", "c:x.json", "\x1b.json"]
)
def test_names_that_leave_the_folder_are_refused(host: Host, into: Path, name: str) -> None:
    host.files[name] = b"{}"
    with pytest.raises(SecurityError):
        bring(host, into)
    assert not into.exists()
    assert not partial(into).exists()
    assert not host.names()


def test_clashing_names_are_refused(host: Host, into: Path) -> None:
    host.files["CONFIG.json"] = b"{}"
    with pytest.raises(SecurityError, match="two spellings"):
        bring(host, into)
    del host.files["CONFIG.json"]
    host.files["config.json/x.json"] = b"{}"
    with pytest.raises(SecurityError, match="below a file"):
        bring(host, into)


def test_missing_files_repositories_and_permission(host: Host, into: Path) -> None:
    host.status[WEIGHTS] = 404
    with pytest.raises(ConfigError, match=f"answers 404 for {WEIGHTS}"):
        bring(host, into)
    host.status[WEIGHTS] = 403
    with pytest.raises(ConfigError, match="set HF_TOKEN"):
        bring(host, into)
    host.status[WEIGHTS] = 503
    with pytest.raises(Interrupted, match="503"):
        bring(host, into)
    with pytest.raises(ConfigError, match="answers 404 for maker/none"):
        fetch("maker/none", [f"revision={COMMIT}", f"into={into}", f"host={host.url}"])
    host.close()
    with pytest.raises(Interrupted, match="the same command goes on"):
        bring(host, into)


def test_branches_are_refused_before_any_connection(host: Host, into: Path) -> None:
    for revision in ("main", "v1.0", COMMIT[:12], COMMIT.upper(), COMMIT + "0"):
        with pytest.raises(ConfigError, match="branches and tags can be moved"):
            fetch(REPOSITORY, [f"revision={revision}", f"into={into}", f"host={host.url}"])
    with pytest.raises(ConfigError, match="which commit is not said"):
        fetch(REPOSITORY, [f"into={into}", f"host={host.url}"])
    assert not host.seen


def test_another_commit_than_asked_is_refused(host: Host, into: Path) -> None:
    host.spoil = lambda listing: listing.update(sha="f" * 40)
    with pytest.raises(InputError, match="answers with commit ffff"):
        bring(host, into)


@pytest.mark.parametrize(
    "change",
    [
        {"siblings": 3},
        {"siblings": [{"rfilename": "a.json"}]},
        {"siblings": ["a"]},
        {"siblings": [{"rfilename": "a.json", "size": -1}]},
        {"siblings": [{"rfilename": "a.json", "size": 1, "blobId": 5}]},
    ],
)
def test_answers_in_another_form_are_refused(host: Host, into: Path, change: dict[str, Any]) -> None:
    host.spoil = lambda listing: listing.update(change)
    with pytest.raises(InputError, match="no listing"):
        bring(host, into)


def test_redirects_stay_on_the_host_or_go_to_https(host: Host, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    host.onward = lambda path: f"/cdn/{WEIGHTS}" if path.endswith(f"{COMMIT}/{WEIGHTS}") else ""
    host.cut = [1000]
    assert bring(host, into) == 0
    onward = [(span, token) for path, span, token in host.seen if path.startswith("/cdn/")]
    assert onward == [("", f"Bearer {SECRET}"), ("bytes=1000-", f"Bearer {SECRET}")]


def test_redirects_to_an_open_line_elsewhere_are_refused(
    host: Host, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    other = Host(controlnet())
    for target in (other.url, "file:///etc/passwd", "ftp://127.0.0.1/x"):
        host.onward = lambda path, target=target: f"{target}/cdn/{WEIGHTS}?signature=xyz" if "/resolve/" in path else ""
        with pytest.raises((SecurityError, ConfigError)) as caught:
            bring(host, into)
        assert "signature" not in str(caught.value)
        assert SECRET not in str(caught.value)
    assert not other.seen
    other.close()


def test_the_token_goes_to_its_host_alone() -> None:
    handler = hub._Redirects("https://hub.example", SECRET)
    asked = urllib.request.Request("https://hub.example/a", headers={"Range": "bytes=5-"})
    hub.authorise(asked, "https://hub.example", SECRET)
    for place, sent in (
        ("https://hub.example/b", True),
        ("https://hub.example:443/b", True),
        ("https://cdn.example/b", False),
        ("https://hub.example:8443/b", False),
        ("https://hub.example.evil/b", False),
    ):
        onward = handler.redirect_request(asked, None, 302, "", Message(), place)  # type: ignore[arg-type]
        assert onward is not None
        assert onward.has_header("Authorization") == sent
        assert onward.get_header("Range") == "bytes=5-"


def test_token_and_host_are_checked_and_never_shown(host: Host, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (
        "http://hub.example",
        "https://user:pass@hub.example",
        "https://hub.example/path",
        "ftp://x",
        "https://",
        "https://[",
        "https://h.example?x=pass",
    ):
        with pytest.raises(ConfigError, match="host=") as caught:
            Hub(address)
        assert "pass" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", SECRET + "\nX-Evil: 1")
    with pytest.raises(ConfigError, match="HF_TOKEN holds") as caught:
        bring(host, into)
    assert SECRET not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    host.status[WEIGHTS] = 403
    with pytest.raises(ConfigError, match="the token in HF_TOKEN") as caught:
        bring(host, into)
    assert SECRET not in str(caught.value)
    assert {token for _, _, token in host.seen} == {f"Bearer {SECRET}"}
    assert not [p for p in partial(into).rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]


def test_code_in_configurations_is_refused_before_the_weights(host: Host, into: Path) -> None:
    host.files["config.json"] = b'{"auto_map": {"AutoModel": "evil.Evil"}}'
    with pytest.raises(SecurityError, match="auto_map"):
        bring(host, into)
    assert WEIGHTS not in host.names()
    assert not into.exists()


def test_a_pickle_in_the_clothes_of_safetensors_is_refused(host: Host, into: Path) -> None:
    host.files[WEIGHTS] = b"\x80\x04" + b"cos\nmkdir\n" * 20
    with pytest.raises(SecurityError, match="not safetensors"):
        bring(host, into)
    assert not into.exists()


def test_unknown_pipeline_classes_are_refused_before_the_weights(host: Host, into: Path) -> None:
    host.files = {"model_index.json": b'{"_class_name": "EvilPipeline"}', "unet/a.safetensors": safetensors(4)}
    with pytest.raises(SecurityError, match="EvilPipeline"):
        bring(host, into)
    assert host.names() == ["model_index.json"]


def listed(*names: str) -> list[Remote]:
    return [Remote(name, 1, "0" * 64, "") for name in names]


def test_one_copy_of_the_weights_of_a_pipeline() -> None:
    shard = "transformer/diffusion_pytorch_model-00001-of-00002.safetensors"
    files, left = choose(
        listed(
            "model_index.json",
            "sd.safetensors",
            "unet/config.json",
            "unet/m.fp16.safetensors",
            "unet/m.safetensors",
            "unet/m.non_ema.safetensors",
            "vae/m.fp16.safetensors",
            "vae/m.bin",
            shard,
            "transformer/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
            "unet/run.py",
            ".x/a.json",
            "synthaug.lock.json",
            "text/onnx/model.onnx",
        ),
        (),
    )
    assert [file.name for file in files] == [
        "model_index.json",
        "unet/config.json",
        shard,
        "unet/m.safetensors",
        "vae/m.fp16.safetensors",
    ]
    assert "sd.safetensors" in left
    chosen, _ = choose(listed("model_index.json", "sd.safetensors", "unet/m.safetensors"), ("sd*",))
    assert [file.name for file in chosen] == ["sd.safetensors"]


def test_pickles_alone_missing_hashes_and_empty_patterns_are_refused() -> None:
    with pytest.raises(InputError, match="no safetensors"):
        choose(listed("config.json", "pytorch_model.bin"), ())
    with pytest.raises(InputError, match=r"pickles alone[\s\S]*vae/m.bin"):
        choose(listed("model_index.json", "unet/m.safetensors", "vae/config.json", "vae/m.bin"), ())
    with pytest.raises(InputError, match="no hash"):
        choose([Remote("a.safetensors", 1, "", "")], ())
    with pytest.raises(InputError, match="matches no plain data"):
        choose(listed("a.safetensors", "a.bin"), ("*.bin",))


def test_part_of_another_fetch_is_not_mixed_in(host: Host, into: Path) -> None:
    host.cut = [1000, 0, 0, 0]
    with pytest.raises(Interrupted):
        bring(host, into)
    host.files["more.json"] = b"{}"
    with pytest.raises(ConfigError, match="part of another fetch"):
        bring(host, into)


def test_two_fetches_do_not_fill_one_folder(host: Host, into: Path) -> None:
    host.cut = [1000, 0, 0, 0]
    with pytest.raises(Interrupted):
        bring(host, into)
    files = fetching.Output(partial(into)).files
    held = files.lock(str(partial(into) / ".synthaug/lock"), wait=False)
    assert held is not None
    with pytest.raises(Refusal, match="another fetch"):
        bring(host, into)
    os.close(held)
    assert bring(host, into) == 0


def command(host: Host, into: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "synthaug.cli",
        "fetch",
        REPOSITORY,
        f"revision={COMMIT}",
        f"into={into}",
        f"host={host.url}",
    ]


def test_resume_after_sigkill(host: Host, into: Path) -> None:
    host.files[WEIGHTS] = safetensors(3_000_000)
    host.cut = [5_000_000]  # it then waits before it tries again: time to be killed in
    child = subprocess.Popen(command(host, into), stderr=subprocess.DEVNULL)
    part = partial(into) / "model" / WEIGHTS
    deadline = time.monotonic() + 10
    while (not part.exists() or part.stat().st_size < 5_000_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not into.exists()
    host.seen.clear()
    assert bring(host, into) == 0
    assert host.names() == [WEIGHTS]
    assert host.seen[-1][1] == "bytes=5000000-"
    assert (into / WEIGHTS).read_bytes() == host.files[WEIGHTS]
    assert not partial(into).exists()


class Stopped(BaseException):
    """A kill, as far as one process can play it."""


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=[pytest.mark.slow] if at % 7 and at < 61 else []) for at in range(1, 68)]
)
def test_resume_after_a_kill_before_any_file_call(
    host: Host, into: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def step(self: object, call: str, path: str) -> None:
        nonlocal calls
        calls += 1
        if calls >= at:
            raise Stopped

    host.files[WEIGHTS] = safetensors(64)
    with monkeypatch.context() as patch:
        patch.setattr("synthaug.engine.publish.FileSystem.step", step)
        if at <= 60:
            with pytest.raises(Stopped):
                bring(host, into)
        else:  # as many calls as there are, and a few more
            with contextlib.suppress(Stopped):
                bring(host, into)
    if into.exists():  # the name means that it is whole
        snapshot.inspect_part(into, ["ControlNetModel"])
        assert (into / "synthaug.lock.json").is_file()
    assert bring(host, into) == 0
    assert len(json.loads((into / "synthaug.lock.json").read_text())["files"]) == 3
    assert not partial(into).exists()


def test_words(into: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'revision'"):
        understand(REPOSITORY, ["revison=x"])
    with pytest.raises(ConfigError, match="twice"):
        understand(REPOSITORY, ["into=a", "into=b"])
    with pytest.raises(ConfigError, match="needs into"):
        understand(REPOSITORY, [f"revision={COMMIT}"])
    with pytest.raises(ConfigError, match="Did you mean 'sdxl'"):
        understand("sdxxl", [])
    for bad in ("../x/y", "a/b/c", "a/..", "a/b?c", "/b", "a/b c"):
        with pytest.raises(ConfigError, match="no repository"):
            understand(bad, [f"revision={COMMIT}", f"into={into}"])


@pytest.mark.parametrize("name", sorted(path.stem for path in (find_conf() / "models").glob("*.yaml")))
def test_every_manifest_can_be_understood_and_pins_nothing_by_itself(name: str, into: Path) -> None:
    wish = understand(name, [f"revision={COMMIT}", f"into={into}"])
    assert wish.notes.keys() == {"licence", "size", "memory"}
    with pytest.raises(ConfigError, match="which commit is not said"):
        understand(name, [f"into={into}"])


def test_lock_of_a_folder_of_ones_own(host: Host, into: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into.mkdir()
    (into / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    with pytest.raises(ConfigError, match="no safetensors"):
        model_lock.lock(str(into))
    (into / "m.safetensors").write_bytes(safetensors(4))
    assert cli.main(["lock", str(into)]) == 0
    assert names(into) == {"config.json", "m.safetensors", "synthaug.lock.json"}
    before = (into / "synthaug.lock.json").read_bytes()
    assert cli.main(["lock", str(into)]) == 0
    assert "match their lock" in capsys.readouterr().err
    (into / "m.safetensors").write_bytes(safetensors(4, fill=2))
    assert cli.main(["lock", str(into)]) == 2
    assert "is not replaced" in capsys.readouterr().err
    assert (into / "synthaug.lock.json").read_bytes() == before
    with pytest.raises(InputError, match="truncated or altered"):
        snapshot.inspect_part(into, ["ControlNetModel"])


@pytest.mark.parametrize("name", ["run.py", "m.bin", "m.ckpt", "m.pt", "lib.so"])
def test_lock_refuses_code_and_pickles(into: Path, name: str) -> None:
    into.mkdir()
    (into / "m.safetensors").write_bytes(safetensors(4))
    (into / name).write_bytes(b"x")
    with pytest.raises(SecurityError, match="not plain data"):
        model_lock.lock(str(into))
    assert names(into) == {"m.safetensors", name}


def test_only_the_hub_opens_connections() -> None:
    package = Path(synthaug.__file__).parent
    network = {"urllib.request", "http.client", "requests", "httpx", "aiohttp", "huggingface_hub", "ftplib"}
    for path in package.rglob("*.py"):
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        assert path.name == "hub.py" or not found & network, path
