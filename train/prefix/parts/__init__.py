"""Parts of the study, one a file: which heads a part asks for, and what it makes of their results.

A part is a module with `arms(study) -> Arms`, heads that other parts have trained too being
trained once, and `results(study, runs, stories) -> dict`, plain values.
"""
