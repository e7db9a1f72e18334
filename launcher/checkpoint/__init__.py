"""Checkpoints: committed with a manifest (`manifest`), or not there."""
