"""Reconstructing a batch on the CPU: four images to a thread, the threads side by side.

At these sizes torch's own threads, inside of an operation, bring next to nothing; independent groups of images keep
every core busy (results/reference/speed/). And since an operation then never runs on more than one thread, an image's
result depends neither on its batch (see `invariance.py`) nor on the number of cores.

On CUDA the batch stays whole: there the device works side by side by itself.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial

import torch
from torch import Tensor

from bench.invariance import NETWORK
from bench.seeds import ImageGenerators
from operators.base import Operator
from priors.prior import Prior
from solvers.base import Iterate, Solver, apart, joint


def side_by_side(
    solver: Solver, y: Tensor, operator: Operator, prior: Prior, rng: ImageGenerators, threads: int | None = None
) -> Iterator[Iterate]:
    """What `solver.reconstruct(y, operator, prior, rng)` yields, and as `prior` counts it.

    Each lane has its own copy of the solver and its own thread, since what a solver may have switched on when it yields
    (`torch.no_grad()`) belongs to the thread. A lane that ends before the others stays with its last estimate.

    Args:
        threads: how many lanes run at a time; as many as torch would use if None.
    """
    if y.is_cuda:
        yield from solver.reconstruct(y, operator, prior, rng)
        return
    stopped = threading.Event()
    priors, lanes = [], []
    for start in range(0, len(y), NETWORK):
        images = slice(start, start + NETWORK)
        priors.append(_stoppable(prior, stopped))
        arguments = (y[images], operator.part(images), priors[-1], rng.part(images))
        lanes.append(iter(copy.copy(solver).reconstruct(*arguments)))
    forward, backward = prior.forward_images, prior.backward_images
    free = threading.Semaphore(threads or torch.get_num_threads())
    workers = [_worker() for _ in lanes]
    latest: list[Iterate | None] = [None] * len(lanes)
    try:
        while True:
            futures = [worker.submit(_next, lane, free) for worker, lane in zip(workers, lanes, strict=True)]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()  # raises what a lane raised, though others may run on
            new = [future.result() for future in futures]
            prior.forward_images = forward + sum(lane.forward_images for lane in priors)
            prior.backward_images = backward + sum(lane.backward_images for lane in priors)
            if all(one is None for one in new):
                return
            latest = [old if one is None else one for one, old in zip(new, latest, strict=True)]
            yield _joined([one for one in latest if one is not None])
    finally:
        stopped.set()
        for worker in workers:
            worker.shutdown(wait=False)


def warm_up(prior: Prior, batch: int, device: torch.device) -> None:
    """`prior.warm_up` as a solver of `batch` images will call the network: on the CPU with a lane's images in a lane.

    A compiled network is compiled anew for another number of threads, and more than one lane's images warm up no more.
    """
    if device.type != "cpu":
        prior.warm_up(batch, device)
        return
    with _worker() as worker:
        worker.submit(prior.warm_up, min(batch, NETWORK), device).result()


def _worker() -> ThreadPoolExecutor:
    """A lane's thread, in which operations take no further threads."""
    return ThreadPoolExecutor(1, initializer=partial(torch.set_num_threads, 1))


class _Stopped(Exception):
    """Nobody waits for this lane any more."""


def _stoppable(prior: Prior, stopped: threading.Event) -> Prior:
    """A copy of `prior` with counts of its own, whose next call ends the lane once `stopped` is set.

    A lane may be minutes away from its next estimate; Ctrl-C should not have to wait for that.
    """
    own, network = copy.copy(prior), prior.network
    own.reset_counts()

    def evaluate(x: Tensor, t: Tensor) -> Tensor:
        if stopped.is_set():
            raise _Stopped
        return network(x, t)

    own.network = evaluate
    return own


def _next(lane: Iterator[Iterate], free: threading.Semaphore) -> Iterate | None:
    with free:
        return next(lane, None)


def _joined(parts: list[Iterate]) -> Iterate:
    images, unknowns = zip(*map(apart, parts), strict=True)
    return joint(torch.cat(images), tuple(torch.cat(each) for each in zip(*unknowns, strict=True)))
