"""Signals that people ask for and that a bundle does not hold, each with the reason."""

from __future__ import annotations

# of signals.md's taxonomy, by name.
_ALWAYS = {
    "verified_follower_ratio": "no table says which accounts are verified",
    "toxicity": "no classifier of texts is part of the project",
    "bot_probability": "no table holds what tells a program from a person",
    "screen_name": "accounts are numbers; names are in no table",
    "bookmark_rate": "the log has no such act",
    "impressions_scrolled_past": "the log has showings and stays, not how a page was scrolled",
    "semantic_relevance": "it depends on the viewer; see /v1/explain",
    "information_density": "no measure of it is known to predict what viewers do",
    "conversational_tone": "no classifier of texts is part of the project",
}
_OF_POST = {
    "reply_depth": "a bundle has who answers what, not how long after",
    "by_surface_over_time": "running counts are kept by post, author and topic, not by surface",
}
_OF_AUTHOR = {
    "response_latency": "a bundle has which posts answer which, not when the author saw them",
    "account_longevity": "a log may number authors and viewers apart, so no account is looked up",
    "manipulation_risk": "no table says which engagement was coordinated",
}
_OF_VIEWER = {
    "session_depth": "profiles hold events, not where one visit ends and the next begins",
    "language_match": "profiles hold no languages",
}


def not_measured(kind: str) -> dict[str, str]:
    """Signal -> reason, of a "post", an "author" or a "viewer"."""
    of_author = _ALWAYS | _OF_AUTHOR
    return {"post": of_author | _OF_POST, "author": of_author, "viewer": _OF_VIEWER}[kind]
