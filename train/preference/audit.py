"""`python -m train.preference.audit WEIGHTS --stakeholders NAME ...`: audit a set of weights.

WEIGHTS is a YAML or JSON file of action: weight, the name of a published preset, or a bundle;
files and bundles may lie at any fsspec path, such as s3://. Prints a table; with --out writes
audit.json, audit.md and a plot there. The exit code is for CI: 0 = all is as wanted, 1 = a
stakeholder's cosine is below --at-least, 2 = cannot be read or written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import yaml
from numpy.typing import NDArray

from configs import near_miss
from pipelines.feed.presets import PRESETS
from pipelines.whole import save_json, save_text
from train.preference.alignment import audit, known_actions, stakeholders, vector
from train.preference.stakeholders.synthetic import ACTION_NAMES, ALPHA, NEGATIVE, mask
from train.report_plots import figures
from train.report_tables import table

Floats = NDArray[np.float64]

BLEND = "blend.json"  # of a bundle


def read_weights(given: str) -> dict[str, float]:
    """Weights by action of a preset, or of a file or a bundle at any fsspec path.

    Of a bundle those are left out that are a reader's own actions, as its card does.

    Raises:
        ValueError: it is none of these, or not a mapping.
    """
    presets = {str(name): weights for name, weights in PRESETS.items()}
    if given in presets:
        return dict(presets[given])
    try:
        files, path = fsspec.core.url_to_fs(given)
        is_bundle, is_file = files.exists(f"{path.rstrip('/')}/{BLEND}"), files.isfile(path)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{given}: cannot be read ({str(error).partition(chr(10))[0]})") from error
    if is_bundle:
        return known_actions(_mapping(f"{given.rstrip('/')}/{BLEND}"))
    if not is_file:
        raise ValueError(f"{given}: no such file, bundle or preset{near_miss(given, PRESETS)}")
    return _mapping(given)


def read_stakeholders(given: Sequence[str]) -> dict[str, Floats]:
    """Built-in stakeholders by name, and own ones as NAME=FILE of action: weight.

    Raises:
        ValueError: a name that there is not, is empty or comes twice, or a file that cannot be
            read.
    """
    found: dict[str, Floats] = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not name or name in found:
            told = f"{name!r} comes twice" if name else "no name"
            raise ValueError(f"--stakeholders: {one}: {told} (each counts once, by a name)")
        found[name] = vector(_mapping(file), file) if equals else stakeholders((name,))[name]
    return found


def read_scale(given: str | None) -> Floats | None:
    """Standard deviation of each action's probability, from a file; others vary by nothing.

    Raises:
        ValueError: it cannot be read, or something in it is negative.
    """
    if given is None:
        return None
    made = vector(_mapping(given), given)
    if (made < 0).any():
        raise ValueError(f"{given}: {ACTION_NAMES[int(made.argmin())]}: a spread is not below 0")
    return made


def markdown(found: Mapping[str, Any], place: str, at_least: float) -> str:
    """The audit as a page."""
    rows = [
        (
            name,
            of["cosine"],
            f"{of['low']:.3f} to {of['high']:.3f}",
            of["risk"],
            of["driver"],
            of["flips_at"],
            _price(of["safer"]),
            "ok" if of["cosine"] >= at_least else "**below**",
        )
        for name, of in found["stakeholders"].items()
    ]
    columns = (
        *("stakeholder", "cosine", "95 %", "risk", "driven by"),
        *("negative weight where the sign flips", "safer", f"≥ {at_least:g}"),
    )
    pairs = [
        (name, of["cosine"], f"{of['low']:.3f} to {of['high']:.3f}")
        for name, of in found["pairs"].items()
    ]
    lines = [f"# Audit of {place}", "", *table(columns, rows)]
    if pairs:
        lines += table(("stakeholders", "cosine", "95 %"), pairs)
    lines += [
        "Intervals: each of a stakeholder's weights off by a normal factor of sd 0.3. "
        + (
            "Weights count by the spread of their action."
            if found["scaled"]
            else "All actions count alike: give --scale for how much each varies between posts."
        ),
        "",
    ]
    return "\n".join(lines)


def plot(found: Mapping[str, Any], wanted: Mapping[str, Floats], plt: Any) -> Any:
    """Cosines with intervals, and how each moves with the common weight of negative actions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    weights = np.array(list(found["weights"].values()))
    negative = mask(NEGATIVE)
    reach = max(1.0, float(np.abs(weights[negative]).max()))
    flips = [of["flips_at"] for of in found["stakeholders"].values() if of["flips_at"] is not None]
    line = np.linspace(-reach, max([0.5 * reach, *(1.5 * at for at in flips)]), 201)
    for at, (name, of) in enumerate(found["stakeholders"].items()):
        error = [[max(0, of["cosine"] - of["low"])], [max(0, of["high"] - of["cosine"])]]
        left.errorbar([of["cosine"]], [at], xerr=error, fmt="o", capsize=3)
        moved = np.where(negative, line[:, None], weights)
        values = moved @ wanted[name] / np.linalg.norm(moved, axis=1)
        right.plot(line, values / np.linalg.norm(wanted[name]), label=name)
    left.set_yticks(range(len(found["stakeholders"])), list(found["stakeholders"]))
    left.set(xlim=(-1.05, 1.05), ylim=(-0.5, len(found["stakeholders"]) - 0.5), xlabel="cosine")
    right.set(xlabel="weight of every negative action", ylabel="cosine, unscaled")
    left.axvline(0, color="#c8553d", lw=1)
    right.axhline(0, color="#c8553d", lw=1)
    right.legend(frameon=False, fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit from the command line."""
    parser = argparse.ArgumentParser(prog="python -m train.preference.audit", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("weights", help="file, preset or bundle")
    parser.add_argument(
        "--stakeholders", nargs="+", default=list(ALPHA), help="names, or NAME=FILE"
    )
    parser.add_argument("--at-least", type=float, default=0.0, help="cosine wanted, default 0")
    parser.add_argument("--scale", help="file of action: sd of its probability between posts")
    parser.add_argument("--out", type=Path, help="folder for audit.json, audit.md and audit.png")
    args = parser.parse_args(arguments)
    if not -1 <= args.at_least <= 1:
        parser.error(f"--at-least: {args.at_least:g} is no cosine (allowed: -1 to 1)")
    try:
        weights = vector(read_weights(args.weights), args.weights)
        wanted = read_stakeholders(args.stakeholders)
        found = audit(weights, wanted, read_scale(args.scale))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    below = [n for n, of in found["stakeholders"].items() if not of["cosine"] >= args.at_least]
    page = markdown(found, args.weights, args.at_least)
    print(page)
    if args.out is not None:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            save_json(args.out / "audit.json", {"audited": args.weights, "below": below, **found})
            save_text(args.out / "audit.md", page)
            figures([(args.out / "audit.png", partial(plot, found, wanted))])
        except ImportError as error:
            print(f"no plot: {error}", file=sys.stderr)
        except OSError as error:
            print(f"{args.out}: cannot be written ({error})", file=sys.stderr)
            return 2
    return 1 if below else 0


def _mapping(path: str) -> dict[str, float]:
    try:
        read = json.loads if path.endswith(".json") else yaml.safe_load
        with fsspec.open(path, "r") as file:
            found = read(file.read())
    except (OSError, ValueError, ImportError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected action: weight, got {type(found).__name__}")
    return {name: _number(value) for name, value in found.items()}


def _number(value: Any) -> Any:
    """YAML takes 1e-05 for a word; other words stay, and are refused with their action."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _price(safer: Mapping[str, Any] | None) -> str | None:
    if safer is None:
        return None
    if safer["weight"] is None:
        return f"not by {safer['action']} alone"
    change = ", ".join(f"{name} {value:+.3f}" for name, value in safer["change"].items())
    return f"{safer['action']} {safer['weight']:.4g} ({change})"


if __name__ == "__main__":
    sys.exit(main())
