"""Contracts: what every implementation of an abstract class must do."""
