"""`python -m train.online.simulate [key=value ...]`: controllers of α against an oracle.

Runs the closed loop of `world` under every fixed α of a grid, whose best is the oracle, under
equal shares of the same values, and under both controllers, all with the same luck, and writes
train/reports/online.json, its page and its plot.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from rich.progress import track

from configs import Config, ConfigError, check, parse_overrides
from pipelines.data.synthetic import World
from train.online.arms import Floats, OnlineConfig, State, after, begin
from train.online.world import Loop, LoopConfig, word_vectors
from train.report import REPORTS, header, write
from train.report_plots import figures

NAME = "online"


class SimulationConfig(Config):
    """The loop, and what is run in it."""

    loop: LoopConfig = LoopConfig()
    thompson: OnlineConfig = OnlineConfig(high=2.0)
    gradient: OnlineConfig = OnlineConfig(high=2.0, method="gradient")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    reports: str = str(REPORTS)


def controlled(loop: Loop, config: OnlineConfig) -> tuple[list[float], list[State]]:
    """Let a controller serve all rounds; expected favorites a page and the state, by round."""
    state, expected, states = begin(config), [], []
    viewers = range(1, loop.config.world.num_users + 1)
    for _ in range(loop.config.num_rounds):
        experiment = state.experiment(config)
        names = list(experiment.arms)
        arm = np.array([names.index(experiment.arm_of(config.name, user)) for user in viewers])
        done, chance = loop.serve(np.array(state.values)[arm])
        expected.append(float(chance.mean()))
        states.append(state)
        state = after(state, config, {int(at): done[arm == at] for at in np.unique(arm)})
    return expected, states


def fixed(loop: Loop, alpha: Floats | float) -> list[float]:
    """Expected favorites a page by round, where nothing is learned."""
    return [float(loop.serve(alpha)[1].mean()) for _ in range(loop.config.num_rounds)]


def simulate(config: SimulationConfig) -> dict[str, Any]:
    """All ways to choose α, by seed.

    Returns:
        "alphas" of the grid, and by seed "fixed" (expected favorites a page, by α and round),
        "equal", "thompson" and "gradient" by round, and each controller's "values" and "shares".
    """
    alphas = begin(config.thompson).values
    runs = []
    for seed in config.seeds:
        world = World.make(config.loop.world.model_copy(update={"seed": seed}))
        vectors = word_vectors(world.posts["text"].to_pylist(), config.loop.width, seed)

        def new(world: World = world, vectors: Any = vectors, seed: int = seed) -> Loop:
            return Loop(config.loop, world, vectors, seed)

        run: dict[str, Any] = {"seed": seed, "fixed": []}
        for alpha in track(alphas, description=f"seed {seed}: fixed α"):
            run["fixed"].append(fixed(new(), alpha))
        run["equal"] = fixed(new(), np.resize(alphas, config.loop.world.num_users))
        for name, of in (("thompson", config.thompson), ("gradient", config.gradient)):
            run[name], states = controlled(new(), of)
            run[f"{name}_states"] = [
                {"values": state.values, "shares": state.shares, "best": state.best}
                for state in states
            ]
        runs.append(run)
    return {"alphas": list(alphas), "runs": runs}


def results(found: Mapping[str, Any], config: SimulationConfig) -> dict[str, Any]:
    """Means over rounds and seeds: what each way earns, and its share of what there is to gain.

    The oracle is the grid's best α in hindsight, of each seed. Gain is from α = lowest to it.
    """
    runs, alphas = found["runs"], found["alphas"]
    grid = np.array([[np.mean(rounds) for rounds in run["fixed"]] for run in runs])  # [seeds, K]
    none, best = grid[:, 0], grid.max(axis=1)
    rows: dict[str, dict[str, Any]] = {
        "no field": _row(none, none, best),
        "equal shares": _row(_means(runs, "equal"), none, best),
        "gradient": _row(_means(runs, "gradient"), none, best),
        "thompson": _row(_means(runs, "thompson"), none, best),
        "oracle": _row(best, none, best),
    }
    served = {
        name: [v for run in runs for s in run[f"{name}_states"] for v in s["values"]]
        for name in ("thompson", "gradient")
    }
    for name, values in served.items():
        rows[name] |= {"lowest_served": min(values), "highest_served": max(values)}
        rows[name]["at_the_end"] = [run[f"{name}_states"][-1]["best"] for run in runs]
    rows["oracle"]["at_the_end"] = [alphas[int(at)] for at in grid.argmax(axis=1)]
    last = len(runs[0]["equal"]) * 3 // 4
    late = {
        name: float(np.mean([np.mean(run[name][last:]) for run in runs]))
        for name in ("equal", "gradient", "thompson")
    }
    late["oracle"] = float(
        np.mean([max(np.mean(rounds[last:]) for rounds in run["fixed"]) for run in runs])
    )
    of = {name: getattr(config, name) for name in served}
    return {
        "favorites_a_page": rows,
        "fixed_alpha": {
            f"α {alpha:.3g}": {"favorites_a_page": float(grid[:, at].mean())}
            for at, alpha in enumerate(alphas)
        },
        "last_quarter_of_the_rounds": late,
        "bounds_kept": all(
            of[name].low <= value <= of[name].high for name in of for value in served[name]
        ),
    }


def _means(runs: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([np.mean(run[name]) for run in runs])


def _row(earned: Floats, none: Floats, best: Floats) -> dict[str, Any]:
    gain = best - none
    share = np.divide(earned - none, gain, out=np.full(len(gain), np.nan), where=gain > 0)
    return {
        "mean": float(earned.mean()),
        "sd_over_seeds": float(earned.std(ddof=1)) if len(earned) > 1 else None,
        "share_of_the_gain": float(np.nanmean(share)) if np.isfinite(share).any() else None,
    }


def plot(found: Mapping[str, Any], plt: Any) -> Any:
    """α and what is lost to the oracle, round by round."""
    colors = {"equal": "#8f8f8f", "gradient": "#c8553d", "thompson": "#1f5fa8"}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for run in found["runs"]:
        best = run["fixed"][int(np.argmax([np.mean(rounds) for rounds in run["fixed"]]))]
        for name, color in colors.items():
            label = name if run is found["runs"][0] else None
            lost = np.cumsum(np.subtract(best, run[name]))
            right.plot(lost, color=color, label=label, linewidth=1.4)
            if name != "equal":
                states = run[f"{name}_states"]
                mean = [np.dot(s["values"], s["shares"]) for s in states]
                left.plot(mean, color=color, label=label, linewidth=1.4)
    for run in found["runs"]:
        at = int(np.argmax([np.mean(rounds) for rounds in run["fixed"]]))
        label = "oracle" if run is found["runs"][0] else None
        left.axhline(found["alphas"][at], color="#0b6e4f", linestyle="--", label=label, lw=1)
    left.set(xlabel="round", ylabel="mean α served", title="Where it goes")
    right.set(xlabel="round", ylabel="favorites a page, added up", title="Lost to the oracle")
    for axis in (left, right):
        axis.legend(frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and write the report."""
    parser = argparse.ArgumentParser(prog="python -m train.online.simulate")
    parser.add_argument("overrides", nargs="*", help="settings as key=value")
    try:
        values = parse_overrides(parser.parse_args(arguments).overrides)
        config = check(values, SimulationConfig, place="simulation")
    except ConfigError as error:
        sys.exit(str(error))
    torch.set_num_threads(1)
    found = simulate(config)
    record = {
        "page": "train.online.page",
        "header": header("the synthetic world", config.seeds),
        "settings": config.model_dump(mode="json", exclude={"reports"}),
        **results(found, config),
    }
    page = write(NAME, record, config.reports)
    figures([(Path(config.reports) / f"{NAME}.png", partial(plot, found))])
    print(page.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
