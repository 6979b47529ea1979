"""`python -m train.online CONFIG [key=value ...]`: one round of a setting that moves online.

The first call writes the first round's feed.yaml. Serve it; label what was served with
`python -m pipelines.data.outcomes`; call again: pages shown since then end the round, and the
next one's feed.yaml takes the place of the last, which a running server takes up. Called again
without new pages it changes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import NonNegativeFloat, PositiveInt
from rich.console import Console

from configs import ConfigError, load
from pipelines.data.reader import InputError
from train.online.arms import OnlineConfig, State, after, begin, read, save
from train.online.served import pages, rewards, write_feed
from train.tuning.results import markdown

STATE, FEED = "state.json", "feed.yaml"


class ServedConfig(OnlineConfig):
    """A controller of a served feed; one YAML file in configs/online/."""

    feed: str = "configs/feed.yaml"  # whose setting is moved
    events: str = "artifacts/outcomes/events"  # what was served, with what came of it
    out: str = "artifacts/online"  # state.json and feed.yaml go to <out>/<name>
    min_pages: PositiveInt = 100  # a round goes on until it has as many
    # Pages shown in the first seconds of a round count in none: a server may not have it yet.
    settle_s: NonNegativeFloat = 60.0


def advance(config: ServedConfig, now_ms: int, console: Console) -> State:
    """Begin, or end a round if it has enough pages; returns the state that is served next.

    Raises:
        InputError, ConfigError, ValueError: as `served.pages`, `served.write_feed`, `arms.read`.
    """
    folder = Path(config.out) / config.name
    moves = OnlineConfig.model_validate(config.model_dump(include=set(OnlineConfig.model_fields)))
    since_ms = now_ms + round(config.settle_s * 1000)
    if not (folder / STATE).exists():
        return _serve(folder, begin(moves, since_ms), config, moves, console)
    state = read(folder / STATE, moves)
    found, left_out = pages(config.events, state, moves)
    if left_out:
        console.print(f"{left_out:,} pages left out: not every rewarded action is told of them")
    if len(found) < config.min_pages:
        console.print(f"round {state.round} goes on: {len(found):,} of {config.min_pages:,} pages")
        return state
    experiment = state.experiment(moves)
    earned = rewards(found, experiment, config.name)
    rows = [
        [value, share, len(earned.get(at, ())), float(earned[at].mean()) if at in earned else ""]
        for at, (value, share) in enumerate(zip(state.values, state.shares, strict=True))
    ]
    console.print(f"round {state.round}, {len(found):,} pages:")
    console.print(markdown([config.setting, "share", "pages", "reward a page"], rows))
    return _serve(folder, after(state, moves, earned, since_ms), config, moves, console)


def _serve(
    folder: Path, state: State, config: ServedConfig, moves: OnlineConfig, console: Console
) -> State:
    """The feed before the state: a round that is known was written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_feed(config.feed, state, moves, folder / FEED)
    save(folder / STATE, state, moves)
    shown = ", ".join(
        f"{value:.4g} ({share:.0%})"
        for value, share in zip(state.values, state.shares, strict=True)
    )
    console.print(f"round {state.round}: {config.setting} {shown}; serve {folder / FEED}")
    return state


def main(arguments: Sequence[str] | None = None) -> int:
    """One round from the command line; 1 and a message when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m train.online")
    parser.add_argument("config", help="a file of configs/online/")
    parser.add_argument("overrides", nargs="*", help="settings as key=value")
    args = parser.parse_args(arguments)
    try:
        config = load(args.config, ServedConfig, args.overrides)
        advance(config, int(time.time() * 1000), Console(soft_wrap=True))
    except (ConfigError, InputError, ValueError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, style="red", soft_wrap=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
