"""The study of "A frequency domain analysis of gradient-based adversarial examples"."""
