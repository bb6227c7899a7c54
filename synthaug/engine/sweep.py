"""Many runs from one command line: Hydra's sweepers and launchers, and our exit statuses."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from synthaug.engine import complaints, configure, recipes, settings, targets, vet
from synthaug.engine.publish import FileSystem
from synthaug.errors import SecurityError, SynthaugError, printable

if TYPE_CHECKING:
    from omegaconf import DictConfig

SEVERITY = (0, 3, 2, 1, 75, 130)
"""Exit statuses, worst last: an interrupted sweep must be resumed, whatever else happened."""
_STOPPED = (75, 130)
_LONGEST = 160
# Where a job's inputs and outputs lie, and how many hands work on it, does not name its folder, unless it varies.
_NAMELESS = frozenset({"read.root", "write.root", *settings.OPERATIONAL})
_QUIET = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.job.name=synthaug",
    "hydra.job.chdir=false",
)
# Differs between any two compositions, or is a user's to choose.
_FREE = frozenset({"overrides", "runtime", "sweeper", "launcher", "mode"})
_FREE_OF_JOB = ("config_name", "override_dirname", "id", "num")


@dataclass(frozen=True, slots=True)
class Job:
    """What every job of a sweep knows.

    Attributes:
        constant: Keys that every job has with one value.
        dropped: Slots to leave out of every job.
        results: Folder in which each job leaves its status as the name of an empty folder: launchers may
            run jobs in other processes, and a folder needs no file opened for writing.
    """

    name: str
    constant: frozenset[str]
    dropped: tuple[str, ...]
    plugins: tuple[str, ...]
    results: Path


def multirun(
    pipeline: str, overrides: Sequence[str], *, config_dir: str | None = None, plugins: Sequence[str] = ()
) -> int:
    """Runs every job of a sweep below `write.root/<its overrides>` and prints one line for each.

    Returns:
        The worst exit status of all jobs; one that fails hides none of the others.

    Raises:
        ConfigError, SecurityError: The sweep as a whole is refused, before any job.
    """
    overrides, dropped = configure.prepared(overrides)
    with tempfile.TemporaryDirectory(prefix="synthaug-sweep-") as folder:
        name, constant = recipes.name_of(pipeline), constants(overrides)
        job = Job(name, constant, tuple(dropped), tuple(plugins), Path(folder, "results"))
        job.results.mkdir()
        arguments = ["--multirun", *_QUIET, f"hydra.sweep.dir={folder}", *overrides]
        failed = _through_hydra(pipeline, config_dir, overrides, arguments, lambda config: run_job(config, job))
        statuses = [int(path.name.split("-")[1]) for path in job.results.iterdir()]
    return max([*statuses, 1 if failed or not statuses else 0], key=_severity)


def info(pipeline: str, overrides: Sequence[str], arguments: Sequence[str], *, config_dir: str | None = None) -> int:
    """Prints what Hydra knows of a composition: `arguments` are its own, such as `--info defaults`."""
    configure.plain_of(configure.raw(pipeline, overrides, config_dir=config_dir))
    overrides, _ = configure.prepared(overrides)
    return int(_through_hydra(pipeline, config_dir, overrides, [*arguments, *_QUIET, *overrides], lambda config: None))


def _severity(status: int) -> int:
    return SEVERITY.index(status) if status in SEVERITY else SEVERITY.index(1)


def _through_hydra(
    pipeline: str,
    config_dir: str | None,
    overrides: Sequence[str],
    arguments: Sequence[str],
    task: Callable[[DictConfig], Any],
) -> bool:
    """Runs `hydra.main` on vetted files; true when Hydra itself ended in an error.

    Raises:
        ConfigError: A job of the sweep cannot be composed; none was started.
    """
    import hydra

    def attempt(some: Sequence[str]) -> Any:
        fixed = [o for o in some if vet.key_of(o) in constants(some)]
        return hydra.compose(config_name, fixed, return_hydra_config=True)

    with recipes.staged(pipeline, config_dir) as config_name:
        _refuse_foreign(config_name, overrides)
        main = hydra.main(config_path=str(targets.find_conf()), config_name=config_name, **configure.version_base())
        before, log = sys.argv, logging.getLogger()
        level, handlers = log.level, log.handlers[:]
        sys.argv = ["synthaug", *arguments]
        try:
            with _raising(), complaints.translated(_composing(attempt), overrides):
                main(task)()
        except SystemExit as end:
            return end.code not in (None, 0)
        finally:
            sys.argv = before
            # `--info` turns the root logger up and sends it to stdout, for good.
            log.setLevel(level)
            log.handlers[:] = handlers
    return False


@contextlib.contextmanager
def _raising() -> Generator[None]:
    """Lets Hydra raise its errors; by itself it prints them in its own words and exits with 1."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _composing(attempt: complaints.Attempt) -> complaints.Attempt:
    """`attempt` in a Hydra of its own, once that of the sweep is gone."""

    def composed(some: Sequence[str]) -> Any:
        import hydra

        with hydra.initialize_config_dir(str(targets.find_conf()), job_name="synthaug", **configure.version_base()):
            return attempt(some)

    return composed


def constants(overrides: Sequence[str]) -> frozenset[str]:
    """Keys of the overrides that do not sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser, found = OverridesParser.create(), set[str]()
    for override in overrides:
        try:
            if not parser.parse_override(override).is_sweep_override():
                found.add(vet.key_of(override))
        except OverrideParseException:
            continue  # composing says why
    return frozenset(found)


def _refuse_foreign(config_name: str, overrides: Sequence[str]) -> None:
    """Compares Hydra's own node with that of an empty run: `hydra.main` instantiates what stands there.

    Raises:
        SecurityError: A recipe has changed it, or a launcher or sweeper is none that is installed.
    """
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    with hydra.initialize_config_dir(str(targets.find_conf()), job_name="synthaug", **configure.version_base()):
        inner = GlobalHydra.instance().hydra
        assert inner is not None

        def own(name: str, some: Sequence[str]) -> dict[str, Any]:
            composed = inner.compose_config(name, list(some), RunMode.MULTIRUN, with_log_configuration=False)
            found = cast("dict[str, Any]", OmegaConf.to_container(composed.hydra, resolve=False))
            for key in _FREE_OF_JOB:
                found["job"].pop(key, None)
            return found

        with complaints.translated(lambda some: own(config_name, some), overrides):
            ours, plain = own(config_name, overrides), own("config", [])
    changed = [key for key in sorted({*ours, *plain} - _FREE) if ours.get(key) != plain.get(key)]
    if changed:
        raise SecurityError(f"the recipe configures Hydra itself (hydra.{changed[0]}); give sweeps on the command line")
    installed = _targets_in(ConfigStore.instance().repo.get("hydra", {}))
    vet.check_targets({key: ours.get(key) for key in ("sweeper", "launcher")}, installed, "hydra")


def _targets_in(node: object) -> frozenset[str]:
    """Every `_target_` that Hydra's installed plug-ins have registered."""
    found: set[str] = set()
    if isinstance(node, Mapping):
        for value in cast("Mapping[str, object]", node).values():
            inner: object = getattr(value, "node", None)
            if inner is None:
                found |= _targets_in(value)
            elif isinstance(inner, Mapping) and "_target_" in inner:
                found.add(str(cast("Mapping[str, Any]", inner)["_target_"]))
    return frozenset(found)


def run_job(composed: DictConfig, job: Job) -> int:
    """One job of a sweep, in whatever process the launcher chose. Never raises for a job's own failure."""
    from hydra.core.hydra_config import HydraConfig

    now = HydraConfig.get()
    folder = job_folder([str(override) for override in now.overrides.task], job.constant)
    if any(int(path.name.split("-")[1]) in _STOPPED for path in job.results.iterdir()):
        status, remark = 75, "not started, the sweep was interrupted"
    else:
        status, remark = _run(composed, job, folder)
    print(printable(f"job {now.job.num}: status {status}: {folder}" + (f": {remark}" if remark else "")), flush=True)
    (job.results / f"{now.job.num}-{status}").mkdir(exist_ok=True)
    return status


def _run(composed: DictConfig, job: Job, folder: str) -> tuple[int, str]:
    from synthaug.engine import local

    try:
        config = configure.checked(configure.without(job.dropped, composed), job.name, job.plugins)
        with _parent_of_jobs(Path(str(config.write["root"]))):
            return local.run(below(config, folder)), ""
    except KeyboardInterrupt:
        return 130, "stopped"
    except SynthaugError as error:
        return error.exit_status, str(error)
    except Exception as error:
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _parent_of_jobs(root: Path) -> Generator[None]:
    """The folder that holds the outputs of all jobs: made if its own parent is there, and not left behind empty."""
    files, made = FileSystem(), False
    with contextlib.suppress(OSError):  # the job's own preflight says what is wrong
        files.mkdir(str(root))
        made = True
        files.fsync_dir(str(root.parent))
    try:
        yield
    finally:
        if made:
            with contextlib.suppress(OSError):
                files.rmdir(str(root))


def below(config: configure.RunConfig, folder: str) -> configure.RunConfig:
    """The same run with `write.root` one folder deeper."""
    root = str(Path(str(config.write["root"]), folder))
    stored = {**config.resolved, "write": {**config.resolved["write"], "root": root}}
    return replace(config, write={**config.write, "root": root}, resolved=stored)


def job_folder(overrides: Sequence[str], constant: Collection[str]) -> str:
    """The folder of a job: what the sweep varies, sorted, safe as one name on every system.

    What all jobs share says nothing here and is left out, unless nothing varies. Distinct jobs get distinct
    names, and a long name keeps every key that varies, its values cut short, and a hash of the whole.
    """
    varied = sorted(o for o in overrides if vet.key_of(o) not in constant)
    kept = varied or sorted(o for o in overrides if vet.key_of(o) not in _NAMELESS)
    plain = ",".join(kept) or "default"
    name = _safe(plain)
    if len(name) > _LONGEST:
        digest = hashlib.blake2b(plain.encode("utf-8"), digest_size=16).hexdigest()
        room = _LONGEST - 40
        each = max(room // len(kept) - 1, 1)
        name = ",".join(_cut(override, each) for override in kept)[:room].rstrip("~") + "~h" + digest
    return name


def _safe(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_=.,+-]", lambda m: "".join(f"~{b:02X}" for b in m.group().encode("utf-8")), text)
    return f"~{ord(name[0]):02X}{name[1:]}" if name.startswith((".", "-")) else name


def _cut(override: str, length: int) -> str:
    """The last part of the key, which is what tells jobs apart, and as much of the value as fits."""
    key, equals, value = override.partition("=")
    whole = _safe(override)
    return whole if len(whole) <= length else _safe(key.rpartition(".")[2] + equals + value)[:length]
