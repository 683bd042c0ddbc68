"""Defences: each is a `torch.nn.Module` around a model, so an attack that knows it attacks it.

`post_averaging` holds the defence of "Bandlimiting" as a differentiable module with all its
switches; `directions` the samplers; `sweep` evaluates many radii and numbers of directions in one
pass; `prediction` predicts with fewer samples; `evaluation` keeps the records of both. `transforms`
holds defences that transform the input, most of them controls, and `smoothing` the one that smooths
the kernels of a network; `catalogue` makes a defence as it is configured.
"""
