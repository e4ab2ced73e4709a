"""A benchmark of diffusion-model solvers for image inverse problems."""
