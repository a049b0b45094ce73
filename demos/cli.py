"""The command line: ``python -m demos NAME [options]``."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from demos import gallery
from demos.examples import find, kind_of
from demos.runs import Interrupted, Settings, sample, say, train
from demos.table import DEMOS, Demo
from tinygen.data import NAMES, TOYS
from tinygen.errors import NonFiniteError, TinygenError, did_you_mean

OUT = Path("out")
SUCCESS, FAILURE, USER_ERROR, CTRL_C = 0, 1, 2, 130


class UsageError(Exception):
    """The command line asks for something that cannot be done."""


class Parser(argparse.ArgumentParser):
    """argparse that raises `UsageError`, suggests the nearest option on a typo, and leaves out what was not given."""

    def __init__(self, name: str, text: str, epilog: str = "") -> None:
        super().__init__(
            f"python -m demos {name}",
            description=text,
            epilog=epilog,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )

    def error(self, message: str) -> NoReturn:
        """Called by argparse when the arguments are wrong."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """What was given, by name."""
        found, unknown = self.parse_known_args(arguments)
        if unknown:
            word = next((word for word in unknown if word.startswith("-")), unknown[0]).split("=")[0]
            self.error(f"there is no option {word}{did_you_mean(word, self._option_string_actions)}")
        return vars(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for a user's mistake, 130 after Ctrl-C, 1 if training fails."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except Interrupted as stop:
        say(f"\ninterrupted at step {stop.step:,}, and saved; go on with: {stop.command}")
        return CTRL_C
    except KeyboardInterrupt:
        say("\ninterrupted")
        return CTRL_C
    except NonFiniteError as error:
        say(f"error: {error}")
        return FAILURE
    except (UsageError, TinygenError) as error:
        say(f"error: {error}")
        return USER_ERROR
    except OSError as error:
        say(f"error: {error.filename}: {error.strerror}")
        return USER_ERROR
    except MemoryError as error:
        say(f"error: that takes more memory than there is ({error}); choose smaller numbers")
        return USER_ERROR
    return SUCCESS


def _run(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    name, *rest = arguments
    if name.startswith("-"):
        raise UsageError(f"name a demo before {name}: {', '.join([*DEMOS, 'gallery'])}")
    if name not in (*DEMOS, "gallery"):
        raise UsageError(
            f"there is no demo {name!r} in the list of python -m demos{did_you_mean(name, [*DEMOS, 'gallery'])}"
        )
    given = (_gallery_parser() if name == "gallery" else _demo_parser(name, DEMOS[name])).parse(rest)
    as_json = given.pop("json", False)
    result = gallery.make(given.pop("out", OUT), **given) if name == "gallery" else _demo(name, given)
    if as_json:
        print(json.dumps(result))


def _demo(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Do what the options of one demo ask for."""
    folder, resume = given.pop("out", OUT / name), given.pop("resume", False)
    if "sample" in given:
        count, seed = given.pop("sample"), given.pop("seed", None)
        if resume or given:
            other = "resume" if resume else next(iter(given))
            raise UsageError(f"{_flag(other)} has no meaning with --sample, which draws from the run as it is")
        _check_demo(name, Settings.read(folder), folder)
        return sample(folder, count, seed)
    return train(_resumed(name, given, folder) if resume else _new(name, given), folder, resume=resume)


def _new(name: str, given: Mapping[str, Any]) -> Settings:
    """The settings of a new run: those given, and for the rest the recipe's."""
    demo = DEMOS[name]
    data, size, seed = given.get("data", demo.data), given.get("size"), given.get("seed", 0)
    examples = find(data, size, seed)
    recipe = demo.recipe(kind_of(examples.shape), data)
    seconds = given.get("seconds")
    return Settings(
        demo=name,
        data=data,
        size=size,
        shape=examples.shape,
        steps=given.get("steps", recipe.steps if seconds is None else None),
        seconds=seconds,
        batch_size=given.get("batch_size", recipe.batch_size),
        seed=seed,
        options={key: given.get(key, option.default) for key, option in demo.options.items()},
    )


def _resumed(name: str, given: Mapping[str, Any], folder: Path) -> Settings:
    """The settings of the run in the folder; only for how long to train can be changed."""
    settings = Settings.read(folder)
    _check_demo(name, settings, folder)
    budget = {key: given[key] for key in ("steps", "seconds") if key in given}
    for key, value in given.items():
        before = settings.options[key] if key in settings.options else getattr(settings, key)
        if key not in budget and value != before:
            raise UsageError(
                f"{_flag(key)} {value} differs from the run in {folder}, which began with {before}; leave it out to go "
                "on with that run, or leave --resume out to start another"
            )
    return replace(settings, **budget)


def _check_demo(name: str, settings: Settings, folder: Path) -> None:
    if settings.demo != name:
        raise UsageError(
            f"{folder} holds a run of {settings.demo}, not of {name}: python -m demos {settings.demo} --out {folder}"
        )


# ---------------------------------------------------------------------------------------------------------- parsers


def _demo_parser(name: str, demo: Demo) -> Parser:
    parser = Parser(name, demo.text, f"Learns {' and '.join(demo.recipes)}. {_data_sets()}")
    _add_common(parser, f"data set or file (default: {demo.data})")
    about = parser.add_argument_group("the model")
    for key, option in demo.options.items():
        default = "depends on the data" if option.default is None else option.default
        about.add_argument(
            _flag(key),
            type=_one_of(option.choices) if option.choices else _whole(1),
            metavar="{" + ",".join(option.choices) + "}" if option.choices else "N",
            help=f"{option.help} (default: {default})",
        )
    after = parser.add_argument_group("with an earlier run")
    after.add_argument("--resume", action="store_true", help="go on with the run in --out; --steps may extend it")
    after.add_argument(
        "--sample", type=_whole(1), metavar="N", help="draw N samples from the run in --out, do not train"
    )
    return parser


def _gallery_parser() -> Parser:
    text = "Train every family and show them side by side. A second call keeps what is finished and resumes the rest."
    parser = Parser("gallery", text, _data_sets())
    _add_common(parser, "images, for the demos that learn images (default: digits)")
    return parser


def _add_common(parser: Parser, data: str) -> None:
    parser.add_argument("--data", metavar="NAME", help=data)
    parser.add_argument(
        "--size", type=_whole(1), metavar="PIXELS", help="reduce images to this height, which must divide theirs"
    )
    parser.add_argument("--steps", type=_whole(1), metavar="N", help="how many updates")
    parser.add_argument(
        "--seconds", type=_positive, metavar="S", help="train for this long; with --steps, until either is reached"
    )
    parser.add_argument("--batch-size", type=_whole(1), metavar="N", help="examples an update")
    parser.add_argument("--seed", type=_whole(0), metavar="N", help="of all that is random (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to write (default: out/NAME; gallery: out)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout at the end")


def _overview() -> str:
    lines = [f"  {name:8} {demo.text}" for name, demo in DEMOS.items()]
    return "\n".join(
        [
            "python -m demos NAME [options]",
            "",
            *lines,
            f"  {'gallery':8} all of these, side by side in one picture: what `make demo` runs",
            "",
            f"{_data_sets()}",
            "python -m demos NAME --help lists the options.",
        ]
    )


def _data_sets() -> str:
    return f"Images: {', '.join(NAMES)}, or a file or folder. Points: {', '.join(TOYS)}, or a file of (N, 2)."


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {least}")
        return value

    return parse


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive number")
    return value


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}{did_you_mean(text, choices)}")
        return text

    return parse
