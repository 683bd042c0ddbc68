"""The study of "Bandlimiting Neural Networks Against Adversarial Attacks"."""
