"""bandlimit: the frequency view of neural networks and adversarial examples, recomputed.

The library knows nothing of Snakemake: each module is importable on its own, heavy packages
are imported by the modules that need them, and nothing is imported here.
"""
