"""What a run consists of: its jobs, the code they reach, their cost and their state."""
