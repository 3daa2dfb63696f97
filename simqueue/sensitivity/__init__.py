"""What moves a figure most, and what the error of a calibration does to it."""
