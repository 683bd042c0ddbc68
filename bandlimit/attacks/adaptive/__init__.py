"""Adaptive attacks: they know the defence and attack all of it, as a module."""
