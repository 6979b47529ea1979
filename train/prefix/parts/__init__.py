"""Parts of the study, one a file: its heads, what it makes of their results, and its section.

A part is a module with `arms(study) -> Arms`, heads that other parts have trained too being
trained once, `results(study, runs, stories) -> dict`, plain values, and `section(part) -> Lines`,
the page's words and tables made from these values alone.
"""
