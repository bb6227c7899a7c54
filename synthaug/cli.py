"""The command line. Nothing heavy is imported before the words on it are understood."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from synthaug import __version__

TYPE_CHECKING = False  # as type checkers read it, without the import of typing
if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

_DESCRIPTION = """\
Rendered, labelled images in; realistic images with the same, proven labels out.

PIPELINE is the name of a recipe (`synthaug help` lists them) or the path of a YAML file of your own.
Overrides change it by name:

  key=value        a field:    refine.strength=0.3  seed=7
  group=option     a choice:   read=voc  write=webdataset
  ~slot            drops a stage of the recipe
  +key=value       adds a key that the recipe does not have
"""
_EPILOG = """\
examples:
  synthaug run convert read=voc read.root=DIR write=coco write.root=OUT
  synthaug run -m convert read.root=DIR write.root=OUT seed=1,2,3
  synthaug help convert

exit status:
  0 complete   2 refused: configuration, input or security   3 complete, but over the reject budget
  75 interrupted: the same command resumes it   130 stopped at once by Ctrl-C: likewise
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        # A fixed width: asking the terminal imports shutil, which costs more than the rest of --help.
        super().__init__(prog, max_help_position=28, width=100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    stray = [word for word in rest if word.startswith("-")]
    if stray:
        parser.error(f"unrecognised option: {stray[0]}")
    if rest and not hasattr(options, "overrides"):
        parser.error(f"unexpected argument: {rest[0]}")
    options.rest = rest
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("synthaug: stopped; the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); say nothing more to it, not even at exit.
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except Exception as error:
        return _refuse(error)


def _refuse(error: Exception) -> int:
    """The message of an error that is meant to be read; any other is a defect and shows its traceback."""
    import os

    from synthaug.errors import SynthaugError, printable

    if not isinstance(error, SynthaugError) or os.environ.get("SYNTHAUG_TRACEBACK") == "1":
        raise error
    for index, line in enumerate(str(error).split("\n")):
        print(("synthaug: " if index == 0 else "") + printable(line), file=sys.stderr)
    return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("synthaug", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"synthaug {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = _add(commands, "run", _run, "run a pipeline, or go on with one that was interrupted")
    _composition(run)
    run.add_argument("-m", "--multirun", action="store_true", help="one job per combination of comma-separated values")
    run.add_argument("--cfg", choices=("job", "hydra", "all"), help="print the composed configuration, run nothing")
    run.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    run.add_argument("-p", "--package", metavar="KEY", help="with --cfg: only what stands below this key")
    run.add_argument(
        "--info",
        nargs="?",
        const="all",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        help="print how the configuration is composed, run nothing",
    )

    preview = _add(commands, "preview", _preview, "four samples, a contact sheet, time and size of the whole run")
    _composition(preview)
    for name, what in (("status", "how far a run is"), ("verify", "hash every file of a run again")):
        command = _add(commands, name, _of_output, what)
        command.add_argument("out", metavar="OUT", help="output folder of a run (its write.root)")
        command.set_defaults(question=name)
    train = _add(
        commands, "train", _train, "fit a model from photos or textures: synthaug train refiner data=PHOTOS ..."
    )
    train.add_argument("kind", metavar="KIND", choices=("refiner", "lora", "texture"), help="refiner, lora or texture")
    train.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings, as conf/train/KIND.yaml lists them")
    fetch = _add(commands, "fetch", _fetch, "bring one commit of a model here; the only command that uses the network")
    fetch.add_argument("model", metavar="MODEL", help="a name in conf/models, or OWNER/NAME")
    fetch.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", help="revision=COMMIT into=DIR [host=URL] [files=PATTERN,...]"
    )
    lock = _add(commands, "lock", _lock, "hash a model folder of your own, so that runs notice any change")
    lock.add_argument("folder", metavar="DIR", help="folder with safetensors and JSON, no code")
    texture = _add(commands, "texture", _texture, "a library of textures: import, list, show, synthesize")
    texture.add_argument("action", metavar="ACTION", choices=("import", "list", "show", "synthesize"))
    texture.add_argument(
        "overrides",
        metavar="WORD",
        nargs="*",
        help="import FOLDER into=LIB licence=... | list LIB [material=...] | show LIB out=FILE |"
        " synthesize method=noise|patches|prompt|model into=LIB licence=..., settings as conf/texture/synthesize lists",
    )
    describe = _add(commands, "help", _describe, "slots and fields of a pipeline, with units and defaults")
    _composition(describe, optional=True)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, command: object, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text, formatter_class=_Help)
    parser.set_defaults(command=command)
    return parser


def _composition(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument("pipeline", metavar="PIPELINE", nargs="?" if optional else None, help="recipe, or path to one")
    parser.add_argument("overrides", metavar="OVERRIDE", nargs="*", help="key=value, group=option, ~slot, +key=value")
    parser.add_argument("--config-dir", metavar="DIR", help="folder of your own groups and recipes")
    parser.add_argument(
        "--plugin", metavar="MODULE", action="append", default=[], help="module whose classes may be named by _target_"
    )


def _compose(options: argparse.Namespace, *, output: bool = True) -> RunConfig:
    from synthaug.engine.configure import compose

    overrides = options.overrides + options.rest
    return compose(options.pipeline, overrides, config_dir=options.config_dir, plugins=options.plugin, output=output)


def _run(options: argparse.Namespace) -> int:
    overrides = options.overrides + options.rest
    if options.cfg == "job":
        from synthaug.engine.describe_config import as_yaml

        text = as_yaml(options.pipeline, overrides, options.config_dir, options.package, resolve=options.resolve)
        print(text, end="")
        return 0
    if options.cfg or options.info:
        from synthaug.engine.sweep import info

        words = ["--info", options.info] if options.info else ["--cfg", options.cfg]
        words += ["--resolve"] if options.resolve else []
        words += ["--package", options.package] if options.package else []
        return info(options.pipeline, overrides, words, config_dir=options.config_dir)
    if options.multirun:
        from synthaug.engine.sweep import multirun

        return multirun(options.pipeline, overrides, config_dir=options.config_dir, plugins=options.plugin)
    config = _compose(options)
    from synthaug.engine import local

    return local.run(config)


def _preview(options: argparse.Namespace) -> int:
    config = _compose(options, output=False)
    from synthaug.engine.preview import preview

    return preview(config)


def _train(options: argparse.Namespace) -> int:
    from synthaug.train.words import values

    found = values(options.kind, options.overrides + options.rest)
    if options.kind == "lora":
        from synthaug.train import lora

        return lora.train(lora.Settings.of(found))
    if options.kind == "texture":
        from synthaug.train import texture

        return texture.train(texture.Settings.of(found))
    from synthaug.train import refiner

    return refiner.train(refiner.Settings.of(found))


def _fetch(options: argparse.Namespace) -> int:
    from synthaug.engine.fetch import fetch

    return fetch(options.model, options.overrides + options.rest)


def _lock(options: argparse.Namespace) -> int:
    from synthaug.engine.model_lock import lock

    return lock(options.folder)


def _texture(options: argparse.Namespace) -> int:
    from synthaug.engine import texture_words

    return texture_words.run(options.action, options.overrides + options.rest)


def _of_output(options: argparse.Namespace) -> int:
    from synthaug.engine import verify

    return getattr(verify, options.question)(options.out)


def _describe(options: argparse.Namespace) -> int:
    from synthaug.engine import describe_config

    if options.pipeline is None:
        print(describe_config.recipes_text(), end="")
        return 0
    overrides = options.overrides + options.rest
    print(describe_config.describe(options.pipeline, overrides, options.config_dir, options.plugin), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
