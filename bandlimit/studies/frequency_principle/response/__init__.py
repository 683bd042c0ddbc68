"""Response frequency: that of the function a network computes, over its inputs."""
