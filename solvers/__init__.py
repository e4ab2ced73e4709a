"""Reconstruction methods, one file each. A solver is a YAML in conf/solver; Hydra's `_target_` is the registry."""
