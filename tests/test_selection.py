"""Which iterate counts, image by image."""

from __future__ import annotations

import pytest
import torch

from bench.selection import Discrepancy, Last, Oracle, Seen, Selection, WindowedVariance


def watch(selection: Selection, tracks: list[list[float]], misfits: list[list[float]] | None = None) -> Selection:
    """Show one-pixel images: `tracks[i][k]` is image i's value at iterate k + 1; the truth is 0."""
    for k, values in enumerate(zip(*tracks, strict=True)):
        estimate = torch.tensor(values).view(-1, 1, 1, 1)
        misfit = torch.tensor([m[k] for m in misfits] if misfits else [9.0] * len(tracks))
        cost = {"forward": 3.0 * (k + 1), "backward": 2.0 * (k + 1), "seconds": float(k + 1)}
        selection.observe(Seen(k + 1, estimate, [-abs(v) for v in values], misfit, cost))
    return selection


def iterates(selection: Selection) -> list[float]:
    return [pick["iterate"] for pick in selection.picks]


def test_last_and_oracle() -> None:
    tracks = [[5.0, 1.0, 3.0], [4.0, 3.0, 2.0]]
    last, oracle = watch(Last(), tracks), watch(Oracle(), tracks)
    assert iterates(last) == [3, 3]
    assert iterates(oracle) == [2, 3]
    assert oracle.estimate.flatten().tolist() == [1.0, 2.0]
    assert oracle.picks[0]["forward"] == 9, "an oracle has to see the whole run"


def test_discrepancy_stops_at_the_first_good_fit_and_keeps_the_last_without_one() -> None:
    tracks = [[4.0, 3.0, 2.0], [4.0, 3.0, 2.0]]
    rule = watch(Discrepancy(), tracks, [[5.0, 1.05, 0.2], [5.0, 4.0, 3.0]])
    assert iterates(rule) == [2, 3]
    assert rule.estimate.flatten().tolist() == [3.0, 2.0]
    assert [pick["backward"] for pick in rule.picks] == [4, 6]


def test_windowed_variance_finds_the_calm_and_stops_after_its_patience() -> None:
    calm = [float(k) for k in range(12, 0, -1)] + [0.0] * 12 + [3.0 * k for k in range(40)]
    restless = [float((-1) ** k * (70 - k)) for k in range(64)]
    rule = watch(WindowedVariance(), [calm, restless])
    first, second = rule.picks
    assert first["iterate"] == 12 + WindowedVariance.window  # the first window in which nothing moved
    assert rule.estimate.flatten()[0] == 0
    assert first["forward"] == 3 * (first["iterate"] + WindowedVariance.patience)
    assert second["iterate"] == 64, "its variance fell to the end"


def test_windowed_variance_of_a_short_run_is_its_last_iterate() -> None:
    rule = watch(WindowedVariance(), [[3.0, 2.0, 1.0]])
    assert iterates(rule) == [3]


@pytest.mark.parametrize("rule", [Last, Discrepancy, WindowedVariance, Oracle])
def test_images_do_not_see_each_other(rule: type[Selection]) -> None:
    generator = torch.Generator().manual_seed(0)
    tracks = torch.randn(3, 40, generator=generator).tolist()
    misfits = (torch.rand(3, 40, generator=generator) + 1).tolist()
    together = watch(rule(), tracks, misfits)
    for i in range(3):
        assert watch(rule(), [tracks[i]], [misfits[i]]).picks == [together.picks[i]]
