"""Figures, as SVG and PNG. Nothing here is imported before a figure is asked for."""
