"""One number of a served feed, moved while the feed is served by what viewers do."""
