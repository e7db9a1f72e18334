"""Run directories: made (`freeze`, `launch`), found (`find`), understood (`status`), continued (`resume`)."""
