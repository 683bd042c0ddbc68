"""Images in any form, brought to one schema, and from there to tensors."""
