"""Preparing: pieces to parts to a folder that is complete or absent. `prepare.prepare` is the door."""
