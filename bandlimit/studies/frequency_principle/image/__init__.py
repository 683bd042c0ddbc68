"""Image frequency: that of the pixels of an image."""
