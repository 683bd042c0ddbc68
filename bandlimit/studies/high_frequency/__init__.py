"""The study of "High-frequency Component Helps Explain the Generalization of CNNs"."""
