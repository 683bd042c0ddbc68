"""The configuration, checked and resolved against the registries. Imports nothing heavy."""
