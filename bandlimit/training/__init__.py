"""Networks that the workflow trains itself."""
