"""The works that a survey of the frequency principle cites, as experiments side by side."""
