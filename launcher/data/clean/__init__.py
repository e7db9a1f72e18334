"""What cleaning looks for in rows: words in common with earlier and with held-out ones, and too many tokens.

Nothing here knows files of sources or the cache.
"""
