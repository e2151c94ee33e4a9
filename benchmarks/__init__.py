"""Benchmarks: each file answers the question in its name, and runs with `--quick`."""
