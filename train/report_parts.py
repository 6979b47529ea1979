"""Reports that are made part by part: what the command line names, and what the last one holds."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from configs import Config, load
from pipelines.data.reader import InputError

C = TypeVar("C", bound=Config)


def settings_of(
    arguments: Sequence[str], model: type[C], default: str, prog: str, description: str | None
) -> C:
    """Settings of `[--config FILE] [--parts PART ...] [key=value ...]`, in any order.

    Args:
        arguments: of the command.
        model: of the settings; the parts named become its `parts`.
        default: the file of settings, unless another is given.
        prog: for --help.
        description: for --help.

    Raises:
        ConfigError: a setting or a part that there is not.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", default=default, help=f"default {default}")
    parser.add_argument("--parts", nargs="+", default=[], metavar="PART", help="only these parts")
    parser.add_argument("overrides", nargs="*", help="settings as a.b=value")
    args = parser.parse_intermixed_args(arguments)
    parts = [part for part in args.parts if "=" not in part]
    overrides = [*args.overrides, *(part for part in args.parts if "=" in part)]  # behind --parts
    if parts:
        overrides.append(f"parts=[{', '.join(parts)}]")
    return load(args.config, model, overrides)


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
