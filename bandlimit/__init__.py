"""bandlimit: the frequency view of neural networks and adversarial examples, recomputed.

The library knows nothing of Snakemake: each module is importable on its own, heavy packages
are imported by the modules that need them, and none is imported here.
"""

import os

# Foolbox imports GitPython for its zoo of models, which nothing here asks for, and which refuses to
# start where there is no git, as in most images and on some compute nodes.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
