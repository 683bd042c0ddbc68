"""The study of what the documents leave out: attackers who know the defence, and controls."""
