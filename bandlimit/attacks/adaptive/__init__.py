"""Adaptive attacks: they know the defence and attack it as a whole, as a module."""
