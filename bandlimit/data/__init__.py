"""Images, whatever they come as: brought to one schema, and from there to tensors."""
