"""Networks: architectures, weights, and classifiers that give equal bits in each call."""
