"""Bank: masks that lie somewhere, indexed once, from which each spec gets one that fits."""
