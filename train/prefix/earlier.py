"""What the last report of the study knows already, so that parts can be run at different times."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.prefix.parts import arms_of, set_of
from train.prefix.study import Arms, StudyConfig
from train.report_parts import last_record

NAME = "prefix"  # of the report
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """Parts that the settings and texts of now would make again; all by name.

    Attributes:
        results: what the report says of each part.
        parts: what each cost, and when and of which heads it was made.
        data: what the report says of each set's texts.
    """

    results: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(
        cls, config: StudyConfig, anew: Collection[str], stories: Mapping[str, Any]
    ) -> Earlier:
        """Read the last report, if there is one.

        Args:
            config: the settings of now.
            anew: parts that are made now.
            stories: of the texts of now, by set.

        Raises:
            InputError: it is no JSON.
        """
        file = Path(config.reports) / f"{NAME}.json"
        if not (last := last_record(file)):
            return cls()
        texts = last["data"] | stories
        others = {name: part for name, part in last["parts"].items() if name not in anew}
        same = {
            name: part
            for name, part in others.items()
            if name in config.all_parts
            and heads_key(arms_of(config, name), texts) == part["heads_key"]
        }
        if gone := sorted(set(others) - set(same)):
            _log.warning("%s: left out: %s, made of other settings or texts", file, ", ".join(gone))
        used = {set_of(config, name) for name in same}
        return cls(
            results={name: last[name] for name in same},
            parts=same,
            data={name: story for name, story in last["data"].items() if name in used},
        )


def heads_key(arms: Arms, stories: Mapping[str, Any]) -> str:
    """The same for the same heads of the same texts."""
    keys = [job.key(stories[job.set]["fingerprint"]) for of in arms.values() for job in of]
    return hashlib.sha256(" ".join(keys).encode()).hexdigest()[:12]
