"""Preferences that people showed: how well weights learned from pairs tell them.

One module a source; each has `measure(config)`, which gives its results and the fingerprint of
its data, and raises an InputError that says what to fetch where these are missing.
"""
