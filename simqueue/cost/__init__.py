"""What steps cost: formulas, measured tables and fitted curves, and their random variation."""
