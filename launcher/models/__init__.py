"""Models: their shape without torch (`shape`), and how they come to be on a rank (`loading`)."""
