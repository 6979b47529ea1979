"""Counts for tests: one post of a log whose base rates are given."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import strategies as st

from pipelines.diagnostics.tally import Account, Base, Tally
from pipelines.schema import ACTION_NAMES, action_weights

BASE = Base(
    actions=ACTION_NAMES,
    weight=action_weights(),
    shown=100_000.0,
    done=np.where(np.isin(ACTION_NAMES, ("photo_expand", "dwell_time")), 0.0, 3_000.0),
    stays=50_000.0,
    quick=5_000.0,
    long=10_000.0,
    window=60_000.0,
    lately=20_000.0,
    to_ms=1_767_225_600_000,
    profiles_from_ms=1_766_000_000_000,
)
ACTED = np.flatnonzero(BASE.done > 0)


def account(**values: float) -> Account:
    """An author of whom nothing is known but `values`."""
    names = [field.name for field in fields(Account)]
    return Account(**{name: np.array([float(values.get(name, np.nan))]) for name in names})


def tally(shown: float, done: dict[str, float], author: Account | None = None, **values: float):
    """A post shown so often, to which so much was done; what is not given is 0."""
    acts = np.array([[float(done.get(name, 0)) for name in ACTION_NAMES]])
    of_topic = {
        "topical_shown": np.array([float(shown)]),
        "topical_done": acts,
        "expected": BASE.rates[None] * shown,
    }
    plain = ("stays", "quick", "long", "window", "lately", "num_texts")
    return Tally(
        shown=np.array([float(shown)]),
        done=acts,
        **of_topic,
        **{name: np.array([float(values.get(name, 0))]) for name in plain},
        originality=np.array([values.get("originality", np.nan)]),
        account=author or account(shown=shown, followed=done.get("follow_author", 0)),
    )


@st.composite
def tallies(draw: st.DrawFn):
    """Any counts that a log can have."""
    shown, stays, window = (draw(st.integers(0, 50_000)) for _ in range(3))
    done = {ACTION_NAMES[at]: draw(st.integers(0, shown)) for at in ACTED}
    quick = draw(st.integers(0, stays))
    return tally(
        shown,
        done,
        stays=stays,
        quick=quick,
        long=draw(st.integers(0, stays - quick)),
        window=window,
        lately=draw(st.integers(0, window)),
    )
