"""Output analysis: what the figures of a simulation are worth (Law, "Simulation Modeling and Analysis", 2015, 9)."""
