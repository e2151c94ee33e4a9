"""Engines: networks built ahead for one kind of GPU and one shape, and kept on disk."""
