"""Generators: things that turn a spec into a volume, called from one thread."""
