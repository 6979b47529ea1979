"""Sections of the study's page, each made from its part of the record alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from train.report import text

Record = Mapping[str, Any]
Lines = list[str]
POOLS = ("500", "2000", "all", "train")
S_COLUMNS = {f"s_{pool}": f"S {pool}" for pool in POOLS} | {"s_probe": "S probe", "s_r": "S_R"}
BESIDE = {
    "l0_first_train": "L0@first",
    "l0_whole_train": "L0@whole",
    "l1_first_train": "L1@first",
    "l1_whole_train": "L1@whole",
    "r_l0_first": "R L0@first",
    "r_l0_whole": "R L0@whole",
    "r_l1_first": "R L1@first",
    "r_l1_whole": "R L1@whole",
}
TESTS = ("difference", "sd", "d", "t", "p", "p_holm")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Lines:
    """A table; cells are plain values."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return [*lines, *(f"| {' | '.join(map(text, row))} |" for row in rows), ""]


def spread(value: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Mean ± standard deviation."""
    if not value or value["mean"] is None:
        return "–"
    sd = value.get("sd")
    return f"{value['mean']:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")


def costs(record: Record) -> Lines:
    """What each part costs, and when it was made."""
    parts = record["parts"]
    columns = ("heads", "cpu_minutes", "date", "git_commit")
    rows = [(name, *(part[c] for c in columns)) for name, part in parts.items()]
    heads, minutes = (sum(part[c] for part in parts.values()) for c in columns[:2])
    last = record["this_command"]
    return [
        "## Cost",
        "",
        *table(("part", "heads of its own", "CPU minutes", "date", "git commit"), rows),
        f"{heads:,} heads and {minutes / 60:.1f} CPU hours in all, to train and measure, texts "
        "being encoded before; on n idle cores the wall time is an n-th. The command that wrote "
        f"this page took {text(last['seconds'] / 60)} minutes and trained "
        f"{text(last['heads_trained'])} heads; the others were kept from before.",
        "",
    ]


def data(record: Record) -> Lines:
    """The sets."""
    columns = ("set", "texts", "public test", "L0", "L1", "H(L0) bits", "H(L1 given L0) bits")
    keys = ("texts", "public_test", "coarse", "fine", "h_coarse_bits", "h_fine_given_coarse_bits")
    rows = [(name, *(of[key] for key in keys)) for name, of in record["data"].items()]
    lines = ["## Data", "", *table(columns, rows)]
    for name, why in record["left_out"].items():
        lines += [f"{name} was left out: {why}", ""]
    return lines


def checks(record: Record) -> Lines:
    """Bars, values and verdicts."""
    rows = [
        (
            check["check"],
            ("aim: " if check.get("aim") else "") + check["bar"],
            check["value"],
            "met" if check["met"] else "**MISSED**",
        )
        for check in record["checks"]
    ]
    if not rows:
        return []
    return ["## Checks", "", *table(("check", "bar", "value", "verdict"), rows)]


def clinc(record: Record) -> Lines:
    """All conditions on CLINC-150."""
    part = record["clinc"]
    conditions = part["conditions"]
    return [
        "## CLINC-150",
        "",
        f"{part['num_seeds']} seeds; {text(conditions['raw']['num_train'][0])} training texts, "
        f"{text(conditions['raw']['num_test'][0])} test texts. `raw` is the encoder itself, whose "
        "vector is not cut.",
        "",
        "### S by pool",
        "",
        *_summaries(conditions, S_COLUMNS),
        "### S by other formulas",
        "",
        "S_gap is S by algebra; S_mono counts steps in the right direction.",
        "",
        *_summaries(
            conditions,
            {f"s_{m}_{p}": f"S_{m} {p}" for m in ("auc", "mono") for p in ("2000", "train")},
        ),
        "### Beside S: accuracy with training texts as neighbours, and R-precision",
        "",
        *_summaries(conditions, BESIDE),
        "### Each prefix",
        "",
        *_curves(conditions),
        "### Paired tests",
        "",
        "Two-sided t tests over seeds, d = mean / sd of the differences, Holm's correction over "
        "the pairs. Seeds share the test texts: the interval beside them draws seeds and test "
        "texts anew.",
        "",
        *_paired(part),
    ]


def _summaries(conditions: Mapping[str, Any], columns: Mapping[str, str]) -> Lines:
    rows = [
        (name, *(spread(of["summary"].get(key)) for key in columns))
        for name, of in conditions.items()
    ]
    return table(("", *columns.values()), rows)


def _curves(conditions: Mapping[str, Any]) -> Lines:
    kinds = {"knn_train": "5-NN", "probe": "probe", "r_precision": "R-precision"}
    columns = [f"{level} {words}" for words in kinds.values() for level in ("L0", "L1")]
    rows = []
    for name, of in conditions.items():
        curves = [of["curves"][kind][level]["mean"] for kind in kinds for level in ("L0", "L1")]
        for at, size in enumerate(of["sizes"]):
            if name != "raw" or at == 0:
                rows.append((name, size, *(f"{curve[at]:.3f}" for curve in curves)))
    return table(("", "numbers", *columns), rows)


def _paired(part: Mapping[str, Any]) -> Lines:
    lines: Lines = []
    intervals = {"s_train": "knn", "s_r": "r_precision"}
    for measure, tests in part["tests"].items():
        drawn = part["bootstrap"].get(intervals.get(measure, ""), {})
        columns = (measure, *TESTS, *(("bootstrap 95 %",) if drawn else ()))
        rows = [
            (
                pair,
                *(test[key] for key in TESTS),
                *((f"{drawn[pair]['low']:.3f} to {drawn[pair]['high']:.3f}",) if drawn else ()),
            )
            for pair, test in tests.items()
        ]
        lines += table(columns, rows)
    return lines


def sets(record: Record) -> Lines:
    """All sets."""
    part = record["sets"]
    lines = ["## All sets", "", f"{part['num_seeds']} seeds.", ""]
    for key, words in (("s_r", "S_R"), *((f"s_{pool}", f"S, pool {pool}") for pool in POOLS)):
        lines += [f"### {words}", "", *_by_set(part, key)]
    lines += ["### L0@first and L1@whole, neighbours from training texts", ""]
    lines += _by_set(part, "l0_first_train", "L0 ") + _by_set(part, "l1_whole_train", "L1 ")
    lines += ["### Paired tests of S_R", ""]
    for pair, tests in part["tests"].items():
        drawn = part["bootstrap"][pair]
        rows = [
            (
                texts,
                *(test[key] for key in TESTS),
                f"{drawn[texts]['low']:.3f} to {drawn[texts]['high']:.3f}",
            )
            for texts, test in tests["s_r"].items()
        ]
        lines += table((pair, *TESTS, "bootstrap 95 %"), rows)
    lines += [
        "### Over the sets",
        "",
        "Random effects (DerSimonian and Laird) of the standardised paired difference, and an "
        "exact sign test of the sets' means. With these few seeds the effects of single sets are "
        "uncertain, and seeds of one set are not independent evidence.",
        "",
    ]
    columns = ("", "effect g", "95 %", "p", "I²", "sets", "sign", "sign p")
    rows_of = []
    for measure, pairs in part["meta"].items():
        for pair, meta in pairs.items():
            of, sign = meta["random_effects"], meta["sign_test"]
            low, high = (text(of.get(end)) for end in ("low", "high"))
            rows_of.append(
                (
                    f"{measure}, {pair}",
                    of.get("effect"),
                    f"{low} to {high}",
                    of.get("p"),
                    of.get("i2"),
                    of["num"],
                    f"{sign['positive']} of {sign['num']}",
                    sign["p"],
                )
            )
    return [*lines, *table(columns, rows_of)]


def _by_set(part: Mapping[str, Any], key: str, words: str = "") -> Lines:
    names = list(next(iter(part["sets"].values())))
    rows = [
        (texts, *(spread(of[name]["summary"].get(key)) for name in names))
        for texts, of in part["sets"].items()
    ]
    return table((words.strip(), *names), rows)


def trend(record: Record) -> Lines:
    """Against H(L1|L0)."""
    part = record["trend"]
    points, correlations = part["points"], part["correlations"]
    keys = list(next(iter(points.values())))
    measures = ("rho", "rho_p", "r", "r_p", "num")
    return [
        "## Trend over the sets",
        "",
        "`product` is H(L1|L0) times the encoder's own fine accuracy. It was proposed after the "
        "fact by the original, and six sets are few.",
        "",
        *table(("set", *keys), [(name, *of.values()) for name, of in points.items()]),
        *table(
            ("", "against", *measures),
            [
                (name, by, *(test.get(m) for m in measures))
                for name, tests in correlations.items()
                for by, test in tests.items()
            ],
        ),
    ]


def unseen(record: Record) -> Lines:
    """Fine classes that no head has seen."""
    part = record["unseen"]
    columns = {
        "l0_first": "L0@first",
        "l0_whole": "L0@whole",
        "r_l0_first": "R L0@first",
        "r_l0_whole": "R L0@whole",
        "r_l1_first": "R L1@first",
        "r_l1_whole": "R L1@whole",
    }
    rows = [
        (f"{columns[measure]}, {pair}", *(test[key] for key in TESTS))
        for measure, tests in part["tests"].items()
        for pair, test in tests.items()
    ]
    return [
        "## Unseen intents",
        "",
        f"{part['share']:.0%} of the intents of each domain are left out of training, drawn anew "
        f"by each of {part['num_seeds']} seeds. L0 by the five nearest training texts, R-precision "
        "among the test texts of those intents.",
        "",
        *_summaries(part["conditions"], columns),
        *table(("paired", *TESTS), rows),
    ]


def retrieval(record: Record) -> Lines:
    """The recall ramp."""
    part = record["retrieval"]
    lines = [
        "## Recall ramp",
        "",
        "Half of the test texts of CLINC-150 look for a text of their label among the other half.",
        "",
    ]
    for level in ("L0", "L1"):
        measures = list(next(iter(part["conditions"].values()))[level])
        rows = [
            (name, size, *(f"{of[level][m]['mean'][at]:.3f}" for m in measures))
            for name, of in part["conditions"].items()
            for at, size in enumerate(of["sizes"])
            if name != "raw" or at == 0
        ]
        lines += table((level, "numbers", *measures), rows)
    return lines


def routing(record: Record) -> Lines:
    """What short prefixes save."""
    part = record["routing"]
    lines = [
        "## Routing",
        "",
        "A workload of coarse queries, which take the first prefix, and fine ones, which take the "
        "whole vector, against every MRL prefix for all. The table gives the least share of coarse "
        "queries from which on a condition beats the best MRL prefix; a dash: never.",
        "",
    ]
    pools = list(part["overtakes"])
    if pools:
        names = list(part["overtakes"][pools[0]])
        rows = [(name, *(part["overtakes"][pool][name] for pool in pools)) for name in names]
        lines += table(("", *(f"pool {pool}" for pool in pools)), rows)
    lines += [
        "Accuracy of the fine label, and numbers compared for each text of the pool, when a vector "
        "grows while its neighbours' votes stay below a share (routed) or the 50 nearest by the "
        "first prefix are looked at again whole (reranked).",
        "",
    ]
    hows = list(next(iter(part["confidence"].values())))
    rows = [
        (
            name,
            *(
                f"{of[how]['accuracy']:.3f} at {of[how]['size']:.0f}" if how in of else "–"
                for how in hows
            ),
        )
        for name, of in part["confidence"].items()
        if name != "raw"
    ]
    return [*lines, *table(("", *hows), rows)]


def three_level(record: Record) -> Lines:
    """Three levels of labels."""
    part = record["three_level"]
    lines = [
        "## Three levels",
        "",
        f"Five groups of domains, ten domains, 150 intents; {part['num_seeds']} seeds. The zoom "
        "score counts those of the two steps at which the coarse falls and the fine rises.",
        "",
    ]
    rows = [
        (name, size, *(f"{of[kind][level]['mean'][at]:.3f}" for kind in kinds for level in levels))
        for kinds, levels in [(("knn_2000", "r_precision"), ("L0", "L1", "L2"))]
        for name, of in part["conditions"].items()
        for at, size in enumerate(of["sizes"])
    ]
    columns = [f"{level} {k}" for k in ("5-NN", "R-precision") for level in ("L0", "L1", "L2")]
    lines += table(("", "numbers", *columns), rows)
    for key, words in (("zoom_knn", "by 5-NN, pool 2000"), ("zoom_r_precision", "by R-precision")):
        names = list(next(iter(part["conditions"].values()))[key])
        found = [
            (name, *(spread(of[key][m]) for m in names)) for name, of in part["conditions"].items()
        ]
        lines += table((words, *names), found)
    return lines


def noise(record: Record) -> Lines:
    """Wrong coarse labels."""
    part = record["noise"]
    columns = {**S_COLUMNS, **{k: BESIDE[k] for k in ("l0_first_train", "l1_whole_train")}}
    columns["r_l0_first"] = BESIDE["r_l0_first"]
    rows = [
        (name, f"{float(share):.0%}", *(spread(of["summary"].get(key)) for key in columns))
        for name, shares in part["conditions"].items()
        for share, of in shares.items()
    ]
    return [
        "## Wrong coarse labels",
        "",
        f"A share of the coarse training labels of CLINC-150 is wrong; {part['num_seeds']} seeds.",
        "",
        *table(("", "wrong", *columns.values()), rows),
    ]


def goldilocks(record: Record) -> Lines:
    """Random coarse groups."""
    part = record["goldilocks"]
    columns = ("s_500", "s_2000", "s_train", "s_r", "l0_first_train", "l1_whole_train")
    rows, peaks = [], []
    for name, widths in part["conditions"].items():
        for width, of in widths.items():
            for groups, values in of["groups"].items():
                cells = (spread(values["summary"].get(key)) for key in columns)
                rows.append((name, width, groups, *cells))
            for measure, fit in of["peaks"].items():
                ends = (None if fit[k] is None else 2 ** fit[k] for k in ("peak_low", "peak_high"))
                low, high = (text(end) for end in ends)
                peak = None if fit["peak"] is None else 2 ** fit["peak"]
                share = fit["share_peaked"]
                peaks.append((name, width, measure, peak, f"{low} to {high}", share, fit["r2"]))
    words = ("groups at the peak", "95 %", "share of draws with a peak", "R²")
    return [
        "## How coarse is best",
        "",
        f"The intents of CLINC-150 in random groups of equal size; {part['num_seeds']} seeds, each "
        "with groups of its own. The peak is that of a quadratic in log2 of the number of groups.",
        "",
        *table(("", "first block", "groups", *columns), rows),
        *table(("", "first block", "", *words), peaks),
    ]


# In the order of the page.
PARTS: dict[str, Callable[[Record], Lines]] = {
    "clinc": clinc,
    "sets": sets,
    "trend": trend,
    "unseen": unseen,
    "three_level": three_level,
    "goldilocks": goldilocks,
    "noise": noise,
    "retrieval": retrieval,
    "routing": routing,
}
