"""Data: synthetic and real samples in one dataset, at an exact share."""
