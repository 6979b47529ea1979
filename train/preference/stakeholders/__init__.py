"""Stakeholders of public data sets: pools of items, and utilities made from the logs."""
