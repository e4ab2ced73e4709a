"""usage: python -m bench COMMAND [Hydra overrides]

commands
  sweep   every dataset x task x solver asked for; by default four solvers on four tasks of the bundled dataset
          python -m bench sweep task=motion_deblur,inpainting solver=dmilo solver.lr_z=1e-2,2e-2
  run     one cell
          python -m bench run task=super_resolution solver=dmilo_pgd
  report  tables and pictures of what has been run: [format=terminal|markdown|latex|csv] [task=...] [rescore=true]
  memory  will it fit? peak memory, estimated without a GPU: [prior=imagenet256] [steps=1,2,3,4] [format=csv]
  list    what there is: [datasets|tasks|solvers|priors]
  fetch   a dataset's training images: dataset=emoji
  train   a prior: prior=emoji

common keys: limit (images), seed, device, batch_size, precision, results_dir, preset (paper, demo, smoke)
`python -m bench sweep --help` shows every key; the same command again continues an interrupted one.
"""

from __future__ import annotations

import sys

from bench.errors import BenchError, nearest


def main(arguments: list[str] | None = None) -> int:
    """The command's exit code: 0 all well, 1 something failed, 2 not understood, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    command, *rest = words
    from bench import commands

    if command not in commands.COMMANDS:
        print(f"bench: {command}: no such command{nearest(command, commands.COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return commands.COMMANDS[command](rest)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
