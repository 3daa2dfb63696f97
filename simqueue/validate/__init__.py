"""Live runs against simulations of the same workload, with every error beside the live system's own spread."""
