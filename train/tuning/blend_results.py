"""The end of a blend's search: test days, each setting put back, and a bundle with the best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from configs import load
from pipelines.feed.discover import FeedConfig
from pipelines.whole import save_json
from train import bundle as bundles
from train.bundle.versions import with_blend
from train.tuning.blended import Blended
from train.tuning.blends import Bench
from train.tuning.results import markdown, save_results
from train.tuning.settings import BlendSearch
from train.tuning.study import MEASURES, fingerprint, front, settings_of
from train.tuning.verdict import Row, compare, sensitivity

REPORT = "report.json"
_LOOKS = "looks"  # at the test days, kept with the study


def finish(study: Study, bench: Bench, config: BlendSearch) -> Path | None:
    """Write all results, and a bundle where the best is better than what there was.

    The test days are looked at once for each best trial; a search that goes on and finds another
    looks again, and says how often it did.

    Returns:
        The bundle, if one was written.
    """
    best = front(study, config)
    if not best:
        save_results(study, config)
        return None
    settings, objective = settings_of(best[0], config), next(iter(config.objectives))
    test = _look(study, best[0], settings, bench)
    put_back = sensitivity(bench.pages, settings, objective)
    better = _better(best[0], bench.default, config)
    report = {
        "study": fingerprint(study),
        "trial": best[0].number,
        "settings": settings,
        "default": bench.default,
        "tuned": best[0].user_attrs[MEASURES],
        "better_on_days_tuned_on": better,
        "test": test,
        "looks_at_test": len(study.user_attrs[_LOOKS]),
        "sensitivity": {
            name: {how: row and row.as_dict() for how, row in rows.items()}
            for name, rows in put_back.items()
        },
    }
    save_json(config.folder / REPORT, report)
    save_results(study, config, _parts(report, put_back, objective))
    if config.write is None or not better:
        return None
    return write_bundle(config, settings, report)


def write_bundle(
    config: BlendSearch, settings: Mapping[str, Any], report: Mapping[str, Any]
) -> Path:
    """Write the bundle anew with these settings, and where they are from.

    Raises:
        BundleError: `config.write` is there and is no bundle.
    """
    assert config.write is not None
    bundle = bundles.load(config.bundle)
    blended = Blended.of(bundle, load(config.feed, FeedConfig), settings)
    kept = ("study", "trial", "settings", "test")
    with_blend(
        Path(config.bundle),
        Path(config.write),
        weights=dict(zip(bundle.actions, blended.weights.tolist(), strict=True)),
        interference=blended.interference,
        feed=blended.feed,
        tuned={"name": config.name} | {name: report[name] for name in kept},
        replace=True,
    )
    return Path(config.write)


def _look(
    study: Study, best: FrozenTrial, settings: Mapping[str, Any], bench: Bench
) -> dict[str, Any]:
    """Measures of the test days: what was found before, or for a new best trial anew."""
    looks: dict[str, Any] = study.user_attrs.get(_LOOKS, {})
    name = str(best.number)
    if name not in looks:
        pages = bench.test()
        rows = compare(pages.viewer, pages.measure_all({}), pages.measure_all(settings))
        looks = {**looks, name: {measure: row.as_dict() for measure, row in rows.items()}}
        study.set_user_attr(_LOOKS, looks)
    return looks[name]


def _better(best: FrozenTrial, default: Mapping[str, float], config: BlendSearch) -> bool:
    """Whether the best beats the untuned settings in an objective, on the days tuned on."""
    return any(
        value > default[name] if way == "maximize" else value < default[name]
        for value, (name, way) in zip(best.values, config.objectives.items(), strict=True)
    )


def _parts(
    report: Mapping[str, Any], put_back: Mapping[str, Mapping[str, Row | None]], objective: str
) -> list[str]:
    times = report["looks_at_test"]
    test = [
        [name, row["before"], row["after"], row["difference"], _interval(row["interval"])]
        for name, row in report["test"].items()
    ]
    tuned_on = [
        [name, value, report["tuned"][name], report["tuned"][name] - value]
        for name, value in report["default"].items()
    ]
    rows = [
        [name, how, row.difference, _interval(row.interval)]
        for name, each in put_back.items()
        for how, row in each.items()
        if row is not None
    ]
    headings = ["measure", "untuned", "tuned", "difference"]
    return [
        "## On the days tuned on",
        markdown(headings, tuned_on),
        "## On the test days",
        f"Looked at {times} time{'s' if times > 1 else ''}; intervals over viewers, 95 %.",
        markdown([*headings, "interval"], test),
        f"## {objective} when one setting goes back, on the days tuned on",
        markdown(["setting", "to", "change", "interval"], rows),
        ""
        if report["better_on_days_tuned_on"]
        else "No trial beats the untuned settings, so no bundle is written.",
    ]


def _interval(ends: Any) -> str:
    low, high = ends
    return f"{low:+.4f} to {high:+.4f}"
