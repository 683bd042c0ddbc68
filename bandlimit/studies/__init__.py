"""The studies, a folder each: its settings, its catalogue of artifacts, and what it computes."""

STUDIES = (
    "bandlimiting",
    "perturbation_spectra",
    "high_frequency",
    "frequency_principle",
    "robustness",
)
"""All studies, in the order in which they are shown; a later one may ask about an earlier one."""
