"""Integrations: the blend in other people's training programs."""
