"""The best of several parameters at once: a search, a race between what it finds, and a last run with fresh seeds."""
