"""Tracking: metrics.jsonl is the truth; W&B follows it in a process of its own, and a page is made of it."""
