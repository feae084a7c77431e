"""Table 1 from data. Oracles: datasets with known powers of n, the particles themselves, the theory of the limits."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import finite
from tpsim import Network, Problem, Training, simulate
from tpsim.data import digits
from tpsim.errors import Notice
from validation.claim import Verdict
from validation.features import features, power
from validation.table_1 import rows, table_1, table_text

NAMES = ("sp", "ntp", "ip", "mup")
M, L, R = 5, 3, 8  # samples, layers, replicas of the synthetic datasets
WIDTHS = (64, 256)
#                   powers of n of the change, the size and the ratio
POWERS = {"sp": (-0.5, 0, 0), "ntp": (-0.5, 0, 0), "ip": (0, 0, -1), "mup": (0, 0, 0)}


def synthetic(change, size=1.0, ratio=0.1, loss=0.01):
    """A run of R replicas: h^l and x^l of each layer have the given size and ratio at T, and size 1, ratio 0.5 at 0."""
    change, size, ratio, loss = (np.broadcast_to(value, R) for value in (change, size, ratio, loss))
    spectrum = np.ones((R, 2, L, M))
    spectrum[..., 0] = 0.5
    spectrum[:, 1, :, 0] = ratio[:, None]
    spectrum *= M / spectrum.sum(axis=-1, keepdims=True)
    spectrum[:, 1, 1:] *= size[:, None, None] ** 2
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((M, M)))[0]
    kernel = np.einsum("ia,rtla,ja->rtlij", turn, spectrum, turn)
    moved = np.stack([np.zeros((R, L)), np.repeat(change[:, None], L, axis=1)], axis=1)
    losses = np.stack([np.ones(R), loss], axis=1)
    chi = np.array([-1.0, -1.0, 1.0, 1.0, 0.5]) * np.ones((R, 2, 1))
    step, layer = ("replica", "step"), ("replica", "step", "layer")
    run = xr.Dataset(
        {f"kernel_{z}": ((*layer, "sample", "sample2"), kernel.copy()) for z in ("h", "x", "dh")}
        | {f"feature_change_{z}": (layer, moved) for z in "hx"}
        | {"loss": (step, losses), "f": ((*step, "sample"), 0 * chi), "chi": ((*step, "sample"), chi)}
        | {"targets": ("sample", -chi[0, 0])}
        | {"batch": (("step", "sample"), np.array([[True] * M, [False] * M]))},
        {"replica": np.arange(R), "step": [0, 250], "layer": np.arange(1, L + 1)},
    )
    config = {"simulation": {"tolerance": 1e-3}, "training": {"learning_rate": [0.1] * (L + 1)}}
    run.attrs["config"] = json.dumps(config | {"network": {"init_scale": [1.0] * (L + 1)}})
    return run


def limits(**changed):
    """The four limits as theory has them: IP at a saddle, with h^l = x^l = 0 from the second layer on."""
    still = synthetic(0.0)
    for z in "hx":
        still[f"kernel_{z}"].values[:, :, 1:] = 0.0
        still[f"feature_change_{z}"].values[:, :, 1:] = np.nan
    found = {"sp": synthetic(0.0), "ntp": synthetic(0.0), "ip": still, "mup": synthetic(0.3)}
    return found | changed


def networks(noise=0.1, loss=0.01, **changed):
    """Cells of a sweep whose change, size and ratio are powers of n times lognormal noise, independent by width."""
    rng, cells = np.random.default_rng(1), []
    for name in NAMES:
        powers = np.array({**POWERS, **changed}[name])
        for n in WIDTHS:
            draws = np.exp(noise * rng.standard_normal((R, 3))) * (n / 64.0) ** powers
            cells.append(synthetic(0.3 * draws[:, 0], draws[:, 1], 0.1 * draws[:, 2], loss))
    grid = xr.combine_nested([cells[k : k + 2] for k in range(0, 8, 2)], ["parametrization", "width"])
    return grid.assign_coords(parametrization=list(NAMES), width=list(WIDTHS)).expand_dims("activation")


def symbols(found):
    return {(row.parametrization, bool(row.widths)): tuple(cell.symbol for cell in row.cells) for row in found}


def test_synthetic_table_is_what_was_put_in():
    """Oracle: the construction. Powers -1/2 and -1 against noise 0.1 / log(4): 10 standard errors from the borders."""
    claim = table_1(limits(), networks())
    assert (claim.verdict, claim.estimate, claim.reference) == (Verdict.PASS, 8.0, 8.0)
    assert (claim.resolved, claim.of) == (16, 16)
    found = symbols(rows(limits(), networks()))
    assert found["sp", False] == found["ntp", False] == found["sp", True] == found["ntp", True] == ("frozen", "rich")
    assert found["mup", False] == found["mup", True] == ("learns", "rich")
    assert (found["ip", False], found["ip", True]) == (("frozen", "none"), ("learns", "low"))
    assert any("8 of 8 at n = 64, 8 of 8 at n = 256" in note for note in claim.notes)
    assert any("the tick is about finite widths" in note for note in claim.notes)
    text = table_text(rows(limits(), networks()))
    assert "| IP | limit | frozen | change 0 | none | features 0 | learns, low |" in text
    assert "| muP | n = 64, 256 | learns | " in text and "the tick is about finite widths" in text


def test_networks_that_have_not_left_the_saddle_have_no_tick():
    """Oracle: the losses that were put in, 0.9 of the first: whatever the power, IP has not begun to learn."""
    found = rows(limits(), networks(loss=0.9))
    assert symbols(found)["ip", True] == ("?", "low") and found[-2].escaped == ((0, R), (0, R))
    assert table_1(limits(), networks(loss=0.9)).verdict is Verdict.PASS  # the limits decide
    vanishing = rows(limits(), networks(loss=0.9, ip=(-0.5, -0.5, 0)))
    assert symbols(vanishing)["ip", True] == ("frozen", "none")


@pytest.mark.parametrize("name, wrong", [("sp", 0.3), ("ntp", 0.3), ("mup", 0.0), ("ip", 0.3)])
def test_a_limit_that_moves_or_stays_against_theory_is_rejected(name, wrong):
    """A frozen muP, and SP, NTP and IP (at its saddle) that learn."""
    claim = table_1(limits(**{name: synthetic(wrong) if name != "ip" else _moving_saddle()}))
    assert claim.verdict is Verdict.FAIL and claim.refuted
    assert any("expected" in note for note in claim.notes)


def _moving_saddle():
    run = limits()["ip"]
    moved = synthetic(0.3)
    for z in "hx":
        run[f"kernel_{z}"].values[:, 1] = moved[f"kernel_{z}"].values[:, 1]
        run[f"feature_change_{z}"].values[:, 1, 0] = 0.3
    return run


def test_a_limit_whose_features_vanish_is_rejected():
    vanished = synthetic(0.3, size=0.0)
    claim = table_1(limits(mup=vanished))
    assert claim.verdict is Verdict.FAIL and "muP, limit: none, expected rich (features 0)" in claim.notes


@pytest.mark.parametrize("ratio, expected", [(0.0, "low"), (3e-5, "low"), (3e-3, "rich")])
def test_a_smallest_eigenvalue_within_the_floor_is_not_called_rich(ratio, expected):
    """Oracle: the floor (10 tolerance)^2 = 1e-4. Truncation or a decaying spectrum may explain it: no refutation."""
    claim = table_1(limits(mup=synthetic(0.3, ratio=ratio)))
    assert symbols(rows(limits(mup=synthetic(0.3, ratio=ratio))))["mup", False] == ("learns", expected)
    assert claim.verdict is (Verdict.PASS if expected == "rich" else Verdict.NOT_RESOLVED)
    singular = networks(mup=(0, 0, -30))  # 0 at n = 256 to rounding, as of many samples under a smooth activation
    assert symbols(rows(limits(), singular))["mup", True] == ("learns", "low")
    assert table_1(limits(), singular).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "name, powers", [("mup", (-0.5, 0, 0)), ("sp", (0, 0, 0)), ("mup", (0, 0, -1)), ("ntp", (-0.5, -0.5, 0))]
)
def test_networks_against_theory_are_rejected(name, powers):
    """muP that freezes or collapses with n, SP that learns, NTP whose features vanish."""
    assert table_1(limits(), networks(**{name: powers})).verdict is Verdict.FAIL


def test_what_noise_hides_is_not_resolved():
    """Oracle: noise of size 1 in the logarithm hides powers of 1/2 (standard error 0.36)."""
    claim = table_1(limits(), networks(noise=1.0))
    assert claim.verdict is Verdict.PASS and claim.resolved < 14 and any("not resolved" in note for note in claim.notes)
    noisy = synthetic(np.array([0.0, 0, 0, 0, 0, 0, 0, 0.3]))
    claim = table_1(limits(mup=noisy))
    assert (claim.verdict, claim.resolved, claim.of) == (Verdict.NOT_RESOLVED, 7, 8)
    with_gaps = networks()
    with_gaps["f"].loc[{"parametrization": "mup", "width": 256, "replica": range(7)}] = np.nan  # one network left
    assert symbols(rows(limits(), with_gaps))["mup", True] == ("?", "?")


def test_intervals_of_powers_hold_what_was_put_in():
    """Oracle: the construction. Level 0.95: of 400 intervals fewer than 360 has probability 1e-4."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(400):
        values = np.exp(0.3 * rng.standard_normal((3, 6, 1))) * np.array([16, 64, 512.0])[:, None, None] ** -0.5
        found = power((16, 64, 512), values)
        inside += bool(found.low[0] <= -0.5 <= found.high[0])
    assert inside >= 360
    exact = power((8, 32), np.array([[[3.0]] * 4, [[6.0]] * 4]))
    assert exact.estimate[0] == pytest.approx(0.5) and exact.below(0.51) and exact.above(0.49)


EVEN = (np.cos, lambda h: -np.sin(h))  # phi(0) = 1, phi'(0) = 0


def gaussian(targets=(-1.0, 1.0, 1.0, -1.0)):
    return Problem(np.random.default_rng(3).standard_normal((4, 6)) / np.sqrt(6), targets)


def small_limits(problem, network, training, particles=256, names=NAMES):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # ratios to Z^{h_0} = 0
        return {
            name: simulate(
                problem, network, training, particles, R, limit=name, record_every=max(training.steps, 1),
                tolerance=1e-3, progress=False,
            )
            for name in names
        }  # fmt: skip


@pytest.mark.parametrize("limit", ["mup", "ip", "ntp"])
def test_features_equal_those_of_the_particles(limit):
    """Oracle: particles, 1e-12; singular values of the (m, M) array for the ratio (squared, 1e-9 relative)."""
    network, T = Network(2, "silu", 1.5), 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        run = simulate(
            gaussian(),
            network,
            Training(T, 0.3, reduction="mean"),
            256,
            2,
            limit=limit,
            snapshots=[0, T],
            record_every=T,
            progress=False,
        )
    found = features(run)
    for k, z in enumerate("hx"):
        particles = run[f"Z_{z}"].values
        moved = np.sqrt(((particles[:, 1] - particles[:, 0]) ** 2).mean(axis=(-2, -1)))
        assert np.allclose(found.change[:, 2 * k : 2 * k + 2], moved, rtol=0, atol=1e-12)
        last = particles[:, 1, 1]
        values = np.linalg.svd(last, compute_uv=False)
        if limit != "ip":
            assert np.allclose(found.ratio[:, k], (values[:, -1] / values[:, 0]) ** 2, rtol=1e-9)
        assert np.allclose(found.size[:, k], np.sqrt((last**2).mean(axis=(-2, -1))), atol=1e-12)


def test_small_real_table():
    """Oracle: theory. L = 3, SiLU: muP learns, IP is at its saddle, in the limit and after 20 steps at these widths."""
    problem, network, training = gaussian(), Network(3, "silu", np.sqrt(2.0)), Training(20, 0.1, reduction="mean")
    runs = small_limits(problem, network, training)
    trained = [
        [finite.train(problem, network, training, n, name, R, dtype="float64", progress=False) for n in (32, 256)]
        for name in NAMES
    ]
    cells = xr.combine_nested(trained, ["parametrization", "width"], combine_attrs="drop_conflicts")
    cells = cells.assign_coords(parametrization=list(NAMES), width=[32, 256])
    claim = table_1(runs, cells)
    assert (claim.verdict, claim.estimate, claim.reference) == (Verdict.PASS, 8.0, 8.0)
    found = symbols(rows(runs, cells))
    assert found["ip", False] == ("frozen", "none") and found["ip", True] == ("frozen", "none")
    assert found["mup", True] == ("learns", "rich") and found["sp", True] == found["ntp", True] == ("frozen", "rich")
    assert rows(runs, cells)[-2].escaped == ((0, R), (0, R))


@pytest.mark.parametrize(
    "network, rate, targets, expected",
    [
        (Network(2, "silu", 1.4), 1.0, (-1.0, 1.0, 1.0, -1.0), "learns"),
        (Network(2, "relu", 1.4), 1.0, (-1.0, 1.0, 1.0, -1.0), "frozen"),
        (Network(2, EVEN, 1.4), 1.0, (1.0, 1.0, 1.0, -1.0), "frozen"),
        (Network(3, "tanh", 1.4), 1.0, (1.0, 1.0, 1.0, -1.0), "frozen"),
        (Network(3, "sigmoid", 1.4), 4.0, (-1.0, 1.0, 1.0, -1.0), "frozen"),
        (Network(3, "sigmoid", 1.4), 4.0, (1.0, 1.0, 1.0, -1.0), "learns"),
    ],
)
def test_ip_learns_in_the_limit_where_theory_says_so(network, rate, targets, expected):
    """Oracle: the zero factors of its updates: L = 2 has none; at L = 3 phi(0) = 0 or balanced classes make one.

    phi'(0) = 0 makes one at any depth: relu as it is coded, and cos(h) with phi(0) = 1, whose readout is trained.
    """
    run = small_limits(gaussian(targets), network, Training(20, rate, reduction="mean"), 128, ["ip"])["ip"]
    (row,) = rows({"ip": run})
    assert (row.learning.symbol, row.learning.expected) == (expected, expected)
    assert table_1({"ip": run}).verdict is Verdict.PASS
    if expected == "frozen":
        assert row.richness.symbol == "none"
    # the escape from the saddle is told where that is the reason, and nowhere else
    told, flat = table_1({"ip": run}).notes, network.depth == 2
    assert any("about log n" in note for note in told) == (expected == "frozen" and not flat)
    assert any("phi'(0) = 0" in note for note in told) == (expected == "frozen" and flat)


UNTRAINED = [
    (Network(2), Training(0), "no step of training"),
    (Network(3), Training(0), "no step of training"),
    (Network(3), Training(3, 0.0), "a learning rate of zero"),
    (Network(2), Training(3, [0.1, 0.1, 0.0]), "a learning rate of zero"),
    (Network(2, init_scale=[1.0, 0.0, 1.0]), Training(3), "initial weights of scale zero"),
    (Network(1), Training(3), ""),
]


@pytest.mark.parametrize("network, training, why", UNTRAINED)
def test_where_nothing_was_trained_or_no_layer_is_hidden_nothing_is_claimed(network, training, why):
    claim = table_1(small_limits(gaussian(), network, training, 64))
    assert (claim.verdict, claim.reference) == (Verdict.NOT_RESOLVED, 0.0)
    assert not any("IP learns in the paper's table" in note for note in claim.notes)
    assert not why or f"nothing is expected of the limits of SP, NTP, IP, muP: {why}" in claim.notes


@pytest.mark.parametrize("depth", [2, 3])
def test_without_error_signal_nothing_is_claimed_of_mup_and_ip(depth):
    """Oracle: f_0 = 0 up to rounding in muP and IP, and so chi with targets 0; f_0 is random in SP and NTP."""
    runs = small_limits(gaussian(np.zeros(4)), Network(depth, "tanh"), Training(10, 0.1, reduction="mean"))
    assert 0 < abs(runs["mup"]["chi"]).max() < 1e-12  # rounding, which is not zero
    claim = table_1(runs)
    assert (claim.verdict, claim.estimate, claim.reference) == (Verdict.PASS, 4.0, 4.0), claim
    assert "nothing is expected of the limits of IP, muP: no error signal at step 0" in claim.notes
    assert not any("IP learns in the paper's table" in note for note in claim.notes)


def test_finite_widths_can_only_refute():
    """Oracle: the construction. One network of each width resolves nothing, and the limits decide; or 8 contradict."""
    claim = table_1(limits(), networks().isel(replica=[0]))
    assert (claim.verdict, claim.resolved, claim.of) == (Verdict.PASS, 8, 16)
    assert "finite widths can only refute" in claim.statement
    assert table_1(limits(), networks(mup=(-0.5, 0, 0))).verdict is Verdict.FAIL
    assert table_text([]).startswith("| | width |")


@pytest.mark.slow
def test_ip_has_the_entries_of_the_paper_when_all_networks_have_left_the_saddle(tmp_path):
    """Oracle: the paper's Table 1, after 600 steps on the digits; after 250 the wider networks have not left."""
    problem, network = replace(digits(), probes=None, probe_targets=None), Network(3, "silu", np.sqrt(2.0))
    for steps, expected in ((250, ("frozen", "none")), (600, ("learns", "low"))):
        training = Training(steps, 0.1, reduction="mean")
        run = small_limits(problem, network, replace(training, steps=3), 128, ["ip"])["ip"]
        cells = finite.sweep(
            problem, network, training, tmp_path / str(steps), widths=WIDTHS, parametrizations=["ip"], seeds=R, seed=1,
            dtype="float64", record_every=steps, workers=1, progress=False,
        )  # fmt: skip
        assert symbols(rows({"ip": run}, cells))["ip", True] == expected
