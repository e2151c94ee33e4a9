"""Evaluation: what came out, shown and measured."""
