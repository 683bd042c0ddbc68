"""The one Fourier transform of the project, and the sets of frequencies that studies ask about."""
