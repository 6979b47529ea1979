"""Reports that are made part by part: what the command line names, and what the last one holds."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from configs import Config, ConfigError, check, load, parse_overrides
from pipelines.data.reader import InputError
from train.bundle import BundleError

C = TypeVar("C", bound=Config)
_log = logging.getLogger(__name__)


def settings_of(
    arguments: Sequence[str],
    model: type[C],
    default: str | None,
    prog: str,
    description: str | None,
) -> C:
    """Settings of `[--config FILE] [--parts PART ...] [key=value ...]`, in any order.

    Args:
        arguments: of the command.
        model: of the settings; the parts named become its `parts`.
        default: the file of settings, unless another is given; None = the model's own values.
        prog: for --help.
        description: for --help.

    Raises:
        ConfigError: a setting or a part that there is not.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    told = default or "none, the values in the code"
    parser.add_argument("--config", default=default, help=f"default {told}")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="only these parts")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_intermixed_args(arguments)
    parts = [part for part in args.parts if "=" not in part]
    overrides = [*args.overrides, *(part for part in args.parts if "=" in part)]  # behind --parts
    if parts:
        overrides.append(f"parts=[{', '.join(parts)}]")
    if args.config is None:
        return check(parse_overrides(overrides), model, place=prog.rpartition(" ")[2])
    return load(args.config, model, overrides)


def command(make: Callable[[Sequence[str]], Path], arguments: Sequence[str] | None = None) -> int:
    """Make a report from the command line; the exit code is 2 where something is wrong.

    Args:
        make: arguments -> the page's path.
        arguments: None = those of this process.
    """
    try:
        page = make(sys.argv[1:] if arguments is None else arguments)
    except (ConfigError, InputError, BundleError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{page}: written")
    return 0


def settings_key(config: Config, read: Collection[str]) -> str:
    """The same for settings that make the same results of a part, which reads only these."""
    said = config.model_dump_json(include=set(read))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def still_true(
    last: Mapping[str, Any],
    wanted: Collection[str],
    key_of: Callable[[str], str],
    prints: Mapping[str, str],
) -> list[str]:
    """Parts of the last report that were not asked for and would come out the same today.

    Args:
        last: the report; its "parts" tell each one's "settings_key", and as "data" the
            fingerprints of what it was made of.
        wanted: the parts that are made now.
        key_of: a part -> the key of today's settings.
        prints: fingerprints of today's data, as far as they were read.
    """
    same: list[str] = []
    gone: list[str] = []
    for part, of in last.get("parts", {}).items():
        if part not in wanted:
            known = of["settings_key"] == key_of(part) and all(
                prints.get(name, print_) == print_ for name, print_ in of["data"].items()
            )
            (same if known else gone).append(part)
    if gone:
        _log.warning("left out: %s, made of other settings or data", ", ".join(gone))
    return same


def last_record(file: Path) -> dict[str, Any]:
    """The report that is there; empty if there is none.

    Raises:
        InputError: it is no JSON.
    """
    try:
        record: dict[str, Any] = json.loads(file.read_text())
    except OSError:
        return {}
    except ValueError as error:
        told = f"{file}: not JSON ({error}); remove it to begin a new report"
        raise InputError(told) from None
    return record
