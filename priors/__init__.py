"""Diffusion priors: network, noise schedule, sampler, and how they are trained."""
