"""What happens while the feed is served: from POST /v1/events to every store that answers by it.

Read journal.py first, then messages.py.
"""
