"""Demo: one segmenter trained twice, on real volumes only and with synthetic ones blended in."""
