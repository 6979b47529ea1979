"""The exact rule of each mark that filters judge by."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from pipelines.feed.hydrators.in_network import InNetwork
from pipelines.feed.hydrators.muted_words import MutedWords
from pipelines.feed.hydrators.subscriptions import Subscriptions
from pipelines.feed.services import Graph
from pipelines.feed.stages import with_context
from tests.pipelines.feed.four_posts import IDS, QUERY, posts
from tests.pipelines.feed.world import World


def test_labels_say_what_is_for_subscribers():
    """A post is if it, or its author, is labelled so; a repost if what it repeats is."""
    world = World()
    world.labelled = {"post": {1: ("for_subscribers",), 2: ("spam",)}, "author": {}}
    world.labelled["author"] = {8: ("adult", "for_subscribers")}
    columns = {"repost_of_post_id": [0, 0, 0, 1], "repost_author_id": [8, 0, 0, 9]}
    table = posts(author_id=[5, 5, 8, 5], **columns)
    marks = asyncio.run(Subscriptions().hydrate(QUERY, table, world))
    assert marks["for_subscribers"].tolist() == [True, False, True, False]
    assert marks["repost_for_subscribers"].tolist() == [False, False, False, True]


def test_own_and_followed_posts_are_in_network():
    """In network: by the viewer or by someone followed; an unknown author is not."""
    graph = Graph(np.array([2]), IDS[:0], IDS[:0])
    query = with_context(QUERY, {"query.graph": graph})
    table = posts(author_id=[2, 3, 1, 0])
    marks = asyncio.run(InNetwork().hydrate(query, table, World()))
    assert marks["in_network"].tolist() == [True, True, False, False]


def test_muted_words_are_looked_for_in_quoted_texts_too():
    """A post that repeats or quotes one with a muted word is marked; no words, no question."""
    pointers = {"repost_of_post_id": [0, 7, 0, 0], "quote_of_post_id": [0, 0, 7, 0]}
    table = posts(**pointers)
    query = with_context(
        QUERY, {"query.graph": replace(QUERY["graph"], muted_keywords=("POST 7",))}
    )
    marks = asyncio.run(MutedWords().hydrate(query, table, World()))
    assert marks["mentions_muted"].tolist() == [False, True, True, False]
    marks = asyncio.run(MutedWords().hydrate(QUERY, table, None))
    assert not marks["mentions_muted"].any()
