"""Figures 5-10 and 17, and those that readers asked for: numbers drawn, captions that follow the data, data themselves.

Oracles: kernels that are diagonal, so that their eigenvalues are chosen; closed forms; the particles themselves; for
the largest stable rate the exact recursion of a linear network.
"""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import finite
import tpsim
from tpsim import Network, Problem, Training, cli
from tpsim.activations import resolve_activation
from tpsim.errors import Notice
from tpsim.parametrization import appendix_a
from validation.figures import compute, curves_of_activations, files, spectra, spectra_claims
from validation.figures.captions import counted
from validation.figures.eigen import eigenvalues, spectra_of
from validation.figures.extras import EXTRAS
from validation.figures.over_time import alignment, correlations
from validation.figures.readers import FIGURES
from validation.figures.runs import PARTICLES
from validation.figures.stability import RATIO, SLACK, bracket
from validation.figures.study import PARAMETRIZATIONS, Settings, Study

WIDTHS, SEEDS, SAMPLES = (8, 32), 5, 4
DIAGONAL = np.array([8.0, 1.0, 0.5, 0.1])  # eigenvalues at width factor 1


def kernels(factor, noise=0.0, replicas=SEEDS, layers=3, seed=0):
    """Diagonal kernels (replica, step, layer, sample, sample2): DIAGONAL at the first step, times `factor` at the last.

    `noise` is the standard deviation of the logarithm of one factor for each replica and eigenvalue.
    """
    noisy = np.exp(noise * np.random.default_rng(seed).standard_normal((replicas, SAMPLES)))
    values = np.zeros((replicas, 2, layers, SAMPLES, SAMPLES))
    i = np.arange(SAMPLES)
    values[:, 0, :, i, i] = DIAGONAL[:, None, None]
    values[:, 1, :, i, i] = (DIAGONAL * factor * noisy).T[:, :, None]
    return values


def made_up(factors, noise=0.0, limits=None, first=None):
    """A study whose final kernels are `factors` by parametrization times those at the start; `first` scales both."""
    dims, limits, first = ("replica", "step", "layer", "sample", "sample2"), limits or factors, first or {}
    coordinates = {"step": [0, 9], "layer": [1, 2, 3]}
    blocks, runs = [], {}
    for k, name in enumerate(PARAMETRIZATIONS):
        scale = first.get(name, 1.0)
        own = np.stack([scale * kernels(factors[name], noise, seed=10 * k + w) for w in range(len(WIDTHS))])
        block = xr.Dataset({f"kernel_{kind}": (("width", *dims), own) for kind in "hx"}, coordinates)
        block["diverged_at"] = (("width", "replica"), np.full((len(WIDTHS), SEEDS), -1))
        blocks.append(block.assign_coords(parametrization=name, width=list(WIDTHS)))
        limit = (1.0 if np.any(limits[name]) else 0.0) * kernels(limits[name], replicas=3)
        runs["silu", name] = xr.Dataset({f"kernel_{kind}": (dims, limit) for kind in "hx"}, coordinates)
    networks = xr.concat(blocks, "parametrization").expand_dims(activation=["silu"])
    settings = Settings(problem(), Network(3, "silu"), Training(9, 0.1), WIDTHS, SEEDS)
    return Study(settings, networks, runs)


def scaled(factors):
    """A factor of kernels (.., sample, sample2) whose diagonal is `factors`."""
    return np.diag(factors)


def few(study, samples):
    """The study of the first samples only."""
    use = {"sample": slice(samples), "sample2": slice(samples)}
    limits = {key: run.isel(use) for key, run in study.limits.items()}
    return replace(study, networks=study.networks.isel(use), limits=limits)


def problem(samples=SAMPLES, targets=None):
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((samples, 6)) / np.sqrt(6)
    return Problem(inputs, np.resize([1.0, -1.0], samples) if targets is None else targets)


def settings(**changes):
    given = {
        "problem": problem(), "network": Network(2, "tanh"), "training": Training(4, 0.1, reduction="mean"),
        "widths": (8, 16), "seeds": 4, "depths": (1, 2), "particles": 128, "replicas": 4,
    }  # fmt: skip
    return Settings(**(given | changes))


SAME = dict.fromkeys(PARAMETRIZATIONS, 1.0)


# --- spectra


def test_eigenvalues_are_sorted_zeros_are_zeros_and_missing_ones_are_missing():
    """Oracle: the spectrum of vv' is |v|^2 and zeros; NaN stays NaN."""
    v = np.array([1.0, 2.0, -1.0])
    values = np.stack([np.outer(v, v), np.diag([1.0, 3.0, 2.0]), np.full((3, 3), np.nan)])
    found = eigenvalues(xr.DataArray(values, dims=("replica", "sample", "sample2"))).values
    np.testing.assert_allclose(found[:2], [[6, 0, 0], [3, 2, 1]], rtol=1e-14)
    assert (found[0, 1:] == 0).all() and np.isnan(found[2]).all()


def test_spectra_drawn_are_those_of_the_kernels():
    """Oracle: diagonal kernels. In (a) the end, in (b) start and end, of the widest networks and of the limit."""
    study = made_up(SAME | {"mup": 4.0}, limits=SAME | {"mup": 3.0, "ip": 0.0})
    figure = spectra.spectrum_figure(study, 2, "x", Figure())
    after, both = figure.axes
    lines = {tuple(np.round(line.get_ydata(), 12)) for line in after.lines if len(line.get_ydata()) == SAMPLES}
    assert lines == {tuple(np.round(DIAGONAL * c, 12)) for c in (0.0, 1.0, 3.0, 4.0)}
    assert len(both.lines) == 2 * len(after.lines)
    limit = next(line for line in after.lines if np.allclose(line.get_ydata(), 3 * DIAGONAL))
    np.testing.assert_allclose(limit.get_xdata(), [0, 100 / 3, 200 / 3, 100])
    assert after.get_yscale() == "log" and "limit of IP: 0" in after.get_legend().get_texts()[0].get_text()
    assert after.get_ylim()[0] > 1e-3  # a zero does not stretch the axis
    assert "The limit of IP is zero" in spectra.spectrum_caption(study, 2, "x")


@pytest.mark.parametrize(("factor", "noise", "agrees"), [(4.0, 0.01, True), (1.0, 0.01, False), (1.5, 0.5, None)])
def test_a_statement_follows_the_data(factor, noise, agrees):
    """Oracle: eigenvalues of muP are `factor` times those of NTP and SP; 1.5 is asked for ("significantly").

    At the threshold itself each of the 8 ratios is taken for decided with probability 2e-3.
    """
    study = made_up(SAME | {"mup": factor}, noise)
    statement, _ = spectra_claims.STATEMENTS[2, "h"]
    assert statement.measure(study)[1] is agrees
    words = {True: "agrees", False: "does not agree", None: "not decided by these data"}[agrees]
    assert f'compared to NTP and SP": {words}. ' in spectra.spectrum_caption(study, 2, "h")


def test_collapse_is_judged_beside_mup_and_the_start_is_told():
    """Oracle: IP at 1e-4 of muP, at all percentiles, from the start on; and at half of it, which is no collapse."""
    _, statement = spectra_claims.STATEMENTS[2, "h"]
    words, agrees = statement.measure(made_up(SAME, 0.01, first={"ip": 1e-4}))
    assert agrees is False and "Before training: 0.0001" in words
    assert words.startswith("Agrees in size, not in where: IP is as small at 0%, and it was before training.")
    assert statement.measure(made_up(SAME | {"ip": 0.5}, 0.01))[1] is False


def test_collapse_agrees_past_its_percentile_only_and_after_training_only():
    """Oracle: past 20% (all but the largest eigenvalue) IP falls to 1e-4 of muP; or was there before training."""
    _, statement = spectra_claims.STATEMENTS[2, "h"]
    falls = np.array([1.0, 1e-4, 1e-4, 1e-4])
    assert statement.measure(made_up(SAME | {"ip": falls}, 0.01))[1] is True
    words, agrees = statement.measure(made_up(SAME, 0.01, first={"ip": scaled(falls)}))
    assert agrees is None and words.startswith("Agrees in size, not in when: it was before training.")
    words, agrees = statement.measure(made_up(SAME | {"ip": 1e-4}, 0.01))
    assert agrees is False and words.startswith("Agrees in size, not in where: IP is as small at 0%.")


def test_throughout_training_can_be_refuted_by_its_end_but_not_shown():
    """Oracle: networks record the first and the last step only; muP larger than all others, and smaller."""
    (statement,) = spectra_claims.STATEMENTS[1, "h"]
    words, agrees = statement.measure(made_up(SAME | {"mup": 4.0}, 0.01))
    assert agrees is None and words.startswith("At the end of training, the only step known")
    assert statement.measure(made_up(SAME | {"mup": 0.5}, 0.01))[1] is False


@pytest.mark.parametrize("samples", [1, 2])
def test_sentences_on_few_eigenvalues_are_decided_or_said_to_have_none(samples):
    """Oracle: of one sample the only eigenvalue is at 0%; of two, those at 0% and 100% are judged as ever."""
    study = few(made_up(SAME | {"mup": 4.0, "ip": 1e-3}, 0.01), samples)
    for (layer, kind), statements in spectra_claims.STATEMENTS.items():
        for statement in statements:
            words, agrees = statement.measure(study)
            nowhere = words.startswith("No eigenvalue")
            assert nowhere <= (agrees is None) and not (nowhere and samples == 2)
        assert '": ' in spectra.spectrum_caption(study, layer, kind)
    collapse = spectra_claims.STATEMENTS[2, "h"][1]
    assert collapse.measure(study)[0].startswith("No eigenvalue from 20% on: there are 1 in all.") == (samples == 1)
    for drawn in spectra.FIGURES.values():
        drawn.draw(study, Figure())


def test_spectra_are_of_their_own_layer_and_kind():
    """Oracle: diagonal kernels, of networks and of limits, times 3^layer, those of x times 7."""
    study = made_up(SAME)

    def scaled_run(run):
        factor = 3.0 ** run["layer"]
        return run.assign({f"kernel_{kind}": run[f"kernel_{kind}"] * factor * c for kind, c in (("h", 1), ("x", 7))})

    limits = {key: scaled_run(run) for key, run in study.limits.items()}
    study = replace(study, networks=scaled_run(study.networks), limits=limits)
    for layer in (1, 2, 3):
        for kind, c in (("h", 1), ("x", 7)):
            found = spectra_of(study, "silu", layer, kind)
            for values in (*found.finite.values(), *found.limits.values()):
                np.testing.assert_allclose(values, np.broadcast_to(c * 3.0**layer * DIAGONAL, values.shape), rtol=1e-12)


def test_captions_of_spectra_say_that_markers_are_moved_and_what_decides():
    text = spectra.spectrum_caption(made_up(SAME, 0.02), 2, "h")
    assert "moved apart sideways" in text and "one-sided Student bounds at 99.9%" in text


def test_plummeting_is_judged_with_and_without_division_by_the_width():
    """Oracle: values below 1e-6 in both normalisations, in neither, and (1e-7 times n = 32) in one of them."""
    statement, _ = spectra_claims.STATEMENTS[3, "x"]
    verdicts = [statement.measure(made_up(SAME, first={"ip": scale}))[1] for scale in (1e-9, 1.0, 4e-7)]
    assert verdicts == [True, False, None]


def test_widest_layer_and_kept_eigenvalues():
    """Oracle: all layers alike: the first of them is the widest, so layer 3 is not; muP keeps 0.4 < 0.5, and 2."""
    kept, _, widest = spectra_claims.STATEMENTS[3, "h"]
    assert widest.measure(made_up(SAME | {"ip": 1e-3}))[1] is False
    assert kept.measure(made_up(SAME | {"mup": 2.0}, 0.01))[1] is True
    assert kept.measure(made_up(SAME | {"mup": 0.4}, 0.01))[1] is False


def test_networks_that_diverged_are_left_out_and_counted():
    """Oracle: one network of muP with NaN kernels; the mean over the others is theirs."""
    study = made_up(SAME | {"mup": 2.0})
    networks = study.networks.copy(deep=True)
    where = {"parametrization": 0, "width": -1, "replica": 0}
    networks["kernel_x"][{"activation": 0, "step": -1, **where}] = np.nan
    networks["diverged_at"] = networks["diverged_at"].copy()
    networks["diverged_at"][{"activation": 0, **where}] = 7
    study = replace(study, networks=networks)
    found = spectra_of(study, "silu", 1, "x")
    assert len(found.finite["mup", "last"]) == SEEDS - 1
    np.testing.assert_allclose(found.network_spread("mup", "last").mean, 2 * DIAGONAL)
    assert "they diverged: 1 of muP." in spectra.spectrum_caption(study, 1, "x")


def test_every_spectrum_is_drawn_and_described():
    study = made_up(SAME | {"mup": 2.0}, 0.02)
    for number, drawn in spectra.FIGURES.items():
        drawn.draw(study, Figure())
        text = drawn.caption(study)
        kind, layer = ("post", int(number) - 4) if int(number) < 8 else ("pre", int(number) - 7)
        assert f"{kind}-activations of layer {layer}" in text and '": ' in text


# --- activations


def test_activations_drawn_are_those_of_the_library():
    """Oracle: phi and phi' themselves, and a gap where ReLU's derivative jumps."""
    study = made_up(SAME)
    curves, slopes = curves_of_activations.activations_figure(study, Figure()).axes
    for line, slope, name in zip(curves.lines, slopes.lines, curves_of_activations.CURVES, strict=False):
        phi, x = resolve_activation(name), line.get_xdata()
        np.testing.assert_array_equal(line.get_ydata(), phi.phi(x))
        drawn = slope.get_ydata()
        np.testing.assert_array_equal(drawn[~np.isnan(drawn)], phi.dphi(x)[~np.isnan(drawn)])
        assert np.isnan(drawn).any() == (name == "relu")


def test_tails_are_told_from_powers():
    """Oracle: of sigmoid exp(-12), with the rounding of 1 - sigmoid(24); of x / (1 + |x|) about 1/2."""
    assert curves_of_activations.tail("sigmoid") == pytest.approx(np.exp(-12), rel=1e-4)
    soft = (lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2)
    assert curves_of_activations.tail(soft) > 0.1 > curves_of_activations.DECAY
    text = curves_of_activations.activations_caption(made_up(SAME))
    assert 'SiLU, and GeLU": agrees.' in text
    assert 'grows linearly": does not agree.' in text and "for SiLU, GELU, ReLU." in text


# --- readers' figures


def test_correlations_are_those_of_the_particles():
    """Oracle: np.corrcoef of the particles at t = 0 and T; alignment from its definition, rounding 1e-12."""
    own = settings()
    data = EXTRAS["time"](own, False)
    network, training = appendix_a("mup", own.network, own.training, 6, 0.1)
    run = tpsim.simulate(
        own.problem, network, training, 128, 2, tolerance=1e-2, seed=own.seed, snapshots=(0, 4), progress=False
    )
    y = own.problem.targets - own.problem.targets.mean()
    for step in (0, 4):
        for layer in (1, 2):
            particles = run["Z_x"].sel(snapshot_step=step, layer=layer).values[1]
            c = np.corrcoef(particles)
            found = data.sel(kind="x", step=step, layer=layer).isel(replica=1)
            expected = y @ c @ y / np.linalg.norm(c) / (y @ y)
            assert float(found["alignment"]) == pytest.approx(expected, rel=1e-12)
            assert float(found["same"]) == pytest.approx((abs(c[0, 2]) + abs(c[1, 3])) / 2, rel=1e-12)
            assert float(found["other"]) == pytest.approx(np.abs(c[::2, 1::2]).mean(), rel=1e-12)
            smallest = np.linalg.eigvalsh(particles @ particles.T / 128)[0]
            assert float(found["eigenvalue"]) == pytest.approx(smallest, rel=1e-9)


def test_alignment_has_its_known_values():
    """Oracle: 1 for yy', 1/sqrt(m) for the identity; NaN, with no warning, for one target or features that are zero."""
    y = np.array([1.0, -1.0, 1.0, -1.0])
    assert alignment(np.outer(y, y), y) == pytest.approx(1)
    assert alignment(np.eye(4), y) == pytest.approx(0.5)
    assert np.isnan(alignment(np.eye(4), np.zeros(4)))
    assert np.isnan(correlations(np.zeros((2, 2)), np.zeros(2))).all()


def test_depths_are_those_of_single_runs():
    """Oracle: tpsim.simulate and finite networks of one depth by themselves."""
    own = settings()
    data = EXTRAS["depths"](own, False)
    network, training = appendix_a("mup", replace(own.network, depth=2), own.training, 6, 0.1)
    run = tpsim.simulate(own.problem, network, training, 128, 2, tolerance=1e-2, seed=own.seed, progress=False)
    at = data.sel(depth=2, series="limit")
    expected = np.linalg.eigvalsh(run["kernel_h"].values[:, -1])[..., 0]
    np.testing.assert_allclose(at["eigenvalue_h"].transpose("replica", "layer").values, expected, rtol=1e-9)
    np.testing.assert_array_equal(at["loss"].values, run["loss"].values[:, -1])
    assert np.isnan(data["eigenvalue_x"].sel(depth=1, layer=2)).all()
    for name in ("mup", "ip"):
        network, training = appendix_a(name, replace(own.network, depth=2), own.training, 6, 0.1)
        run = finite.train(own.problem, network, training, 16, name, 2, seed=own.seed, dtype=own.dtype, progress=False)
        found = data["loss"].sel(depth=2, series=name).dropna("replica")
        np.testing.assert_array_equal(found, run["loss"].values[:, -1])
    assert data.attrs["width"] == 16 and np.isfinite(data["loss"].sel(series="ip")).all()
    text = FIGURES["depths"].caption(Study(own, extras={"depths": data}))
    assert "L = 2: " in text and "of 2 depths" in text


def test_losses_and_batches_differ_as_they_should():
    """Oracle: the squared full batch is the run of figure "time"; at t = 0 the losses are 1 and log 2, for f = 0."""
    own = settings()
    data, same = EXTRAS["training"](own, False), EXTRAS["time"](own, False)
    np.testing.assert_array_equal(data["loss"].sel(variant="squared, full"), same["loss"])
    start = data["loss"].isel(step=0).mean("replica")
    np.testing.assert_allclose(start, [1, 1, np.log(2), np.log(2)], rtol=1e-12)
    assert data.attrs["batch"] == 2
    assert not np.array_equal(
        data["loss"].sel(variant="squared, full"), data["loss"].sel(variant="squared, minibatches")
    )


def test_targets_that_are_no_signs_have_no_logistic_loss():
    own = settings(problem=problem(targets=np.array([0.5, -1.0, 2.0, 0.0])))
    data = EXTRAS["training"](own, False)
    assert list(data["variant"].values) == ["squared, full", "squared, minibatches"]
    study = Study(own, extras={"training": data})
    assert "The logistic loss needs targets +-1." in FIGURES["training"].caption(study)
    FIGURES["training"].draw(study, Figure())


def test_a_limit_that_diverges_is_drawn_as_far_as_it_goes_and_said():
    own = settings(training=Training(30, 50.0, reduction="mean"))
    data = EXTRAS["time"](own, False)
    assert np.isnan(data["loss"].values[:, -1]).all() and np.isfinite(data["loss"].values[:, 0]).all()
    study = Study(own, extras={"time": data})
    assert "The run had to stop" in FIGURES["time"].caption(study)
    FIGURES["time"].draw(study, Figure())


# --- largest stable rates


@pytest.mark.parametrize("edge", [0.013, 0.1, 3.7])
def test_the_bracket_contains_the_edge(edge):
    """Oracle: stable up to `edge`, by construction."""
    found = bracket(lambda rate: rate <= edge, 0.1)
    assert found.low <= edge < found.high <= RATIO * found.low


def test_undecided_rates_widen_the_bracket():
    """Oracle: stable up to 0.3, undecided up to 0.5, unstable from there on."""
    found = bracket(lambda rate: True if rate <= 0.3 else None if rate < 0.5 else False, 0.1)
    assert 0.3 / RATIO <= found.low <= 0.3 and 0.5 <= found.high <= 0.5 * RATIO


def test_an_edge_out_of_reach_is_said():
    assert bracket(lambda rate: True, 0.1).high == np.inf
    assert bracket(lambda rate: False, 0.1).low == 0.0


def linear_is_stable(rate, k, y, steps):
    """L = 1, phi = id, one sample: the exact recursion of p = E[h^2], q = E[What^2], f = E[What h] from 2k, 2, 0."""
    p, q, f = 2.0 * k, 2.0, 0.0
    for _ in range(steps):
        if abs(f) > 1e6:
            return False
        chi = rate * 2 * (f - y)
        p, q, f = (
            p - 2 * chi * k * f + chi**2 * k**2 * q,
            q - 2 * chi * f + chi**2 * p,
            f - chi * (k * q + p) + chi**2 * k * f,
        )
    return (f - y) ** 2 <= (1 + SLACK) * y**2


def test_the_largest_stable_rate_of_a_linear_network_is_that_of_its_recursion():
    """Oracle: `linear_is_stable` on a grid eight times finer than the bracket; the engine is exact for phi = id.

    Sharpness at t = 0: 2 (k E[What^2] + E[h^2]) = 8 k.
    """
    x, y, steps = np.array([[0.6, -0.8, 0.5]]), np.array([0.7]), 40
    own = settings(problem=Problem(x, y), network=Network(1, "identity"), training=Training(steps, 0.1), particles=32)
    data = EXTRAS["learning_rate"](own, False)
    k = float((x @ x.T)[0, 0])
    low, high = float(data["low"][0]), float(data["high"][0])
    grid = np.geomspace(low / 2, high * 2, 8 * 32)
    stable = np.array([linear_is_stable(rate, k, 0.7, steps) for rate in grid])
    assert linear_is_stable(low, k, 0.7, steps) and not linear_is_stable(high, k, 0.7, steps)
    assert stable[grid <= low].all(), "the edge is the first one: no unstable rate below it"
    assert high / low <= RATIO
    np.testing.assert_allclose(data["sharpness"].values[:, 0], 8 * k, rtol=1e-12)
    study = Study(own, extras={"learning_rate": data})
    text = FIGURES["learning_rate"].caption(study)
    assert f"muP, limit: {low:.3g} to {high:.3g}" in text and f"2 / sharpness is {2 / (8 * k):.3g} at the start" in text


def test_losses_drawn_are_medians_divergence_is_a_cross_and_undecided_rates_are_left_out():
    """Oracle: losses that are made up."""
    data = xr.Dataset(
        {
            "rate": (("series", "trial"), [[0.1, 0.2, 0.3, 0.4]]),
            "share": (("series", "trial"), [[1.0, 1.0, np.nan, 0.0]]),
            "alive": (("series", "trial"), [[1.0, 1.0, np.nan, 0.0]]),
            "full": (("series", "trial"), [[0.0, 0.0, 1.0, 0.0]]),
            "low": ("series", [0.2]), "high": ("series", [0.4]),
            "loss": (("series", "trial", "replica"), [[[1.0, 2.0, 6.0], [0.1, 0.2, 0.3], [np.nan] * 3, [np.nan] * 3]]),
            "name": ("series", ["mup"]), "width": ("series", [0]), "limit_rate": ("limit_trial", [0.1, 0.2, 0.4]),
            "sharpness": (("limit_trial", "step"), [[4.0, 5.0], [4.0, 6.0], [4.0, 7.0]]),
        },
        {"step": [0, 1]}, {"steps": 1, "eta": 0.1, "particles": 64, "replicas": 2, "networks": 1},
    )  # fmt: skip
    study = Study(settings(), extras={"learning_rate": data})
    ax, _, sharp = FIGURES["learning_rate"].draw(study, Figure()).axes
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [2.0, 0.2, np.nan, np.nan])
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [0.4])
    drawn = [tuple(line.get_ydata()) for line in sharp.lines]
    assert (0.1 * 4.0, 0.1 * 5.0) in drawn and (0.2 * 4.0, 0.2 * 6.0) in drawn and len(drawn) == 3
    text = FIGURES["learning_rate"].caption(study)
    assert "muP, limit: 0.2 to 0.4 (undecided: 0.3)" in text
    assert "2 replicas of 64 particles of the limit, 1 network of each kind and width" in text
    assert "Of 4 rates tried in the limit 1 filled a basis to more than half, and are noisy: 0.3." in text
    outside = data.assign(rate=data["rate"] * xr.DataArray([1, 1, 3, 1], dims="trial"))
    assert "(undecided: 0.9)" in FIGURES["learning_rate"].caption(replace(study, extras={"learning_rate": outside}))


def test_runs_of_readers_figures_are_bounded():
    """A study of 65536 particles and 1000 steps does not make these figures hours of work."""
    assert PARTICLES <= 4096


# --- the command


SMALL = (
    "--max-width", "8", "--steps", "2", "--seeds", "2", "--workers", "1", "--quiet",
    "--set", "simulation.particles=256", "--set", "simulation.replicas=2", "--set", "data.count=4",
)  # fmt: skip


def command(folder, *more):
    return cli.main(["figures", "--output", str(folder), *more])


@pytest.fixture
def no_pictures(monkeypatch):
    """To draw takes most of the time, and other tests look at pictures."""
    monkeypatch.setattr(files, "write_pictures", lambda *arguments: [])


def test_the_configuration_beside_the_figures_makes_them_again(tmp_path, capsys, no_pictures):
    """Oracle: the first run. The tolerances of ReLU's limit and of readers' figures are no choice of the user's."""
    first, again = tmp_path / "first", tmp_path / "again"
    assert command(first, *SMALL, "--only", "4,time") == 0
    capsys.readouterr()
    text = (first / "config.toml").read_text()
    assert not any(key in text for key in ("tolerance", "sobol", "probe_every", "joint_every", "snapshots", "parts"))
    assert command(again, str(first / "config.toml"), "--only", "4,time", "--quiet") == 0
    assert "is not used" not in capsys.readouterr().err
    assert (again / "figures.nc").read_bytes() == (first / "figures.nc").read_bytes()
    assert (again / "figures.md").read_text() == (first / "figures.md").read_text()
    notices = [json.loads((folder / "summary.json").read_text())["notices"] for folder in (first, again)]
    assert notices[0] == notices[1]
    assert command(tmp_path / "third", *SMALL, "--only", "17", "--set", "simulation.tolerance=0.02") == 0
    assert "tolerance = 0.02" in (tmp_path / "third" / "config.toml").read_text()


def test_one_sample_is_drawn_and_described(tmp_path, no_pictures):
    """One eigenvalue, no pair of samples, no class to be aligned with: nothing of it is decided, and it is said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        assert command(tmp_path / "out", *SMALL, "--only", "8,9,time", "--set", "data.count=1") == 0
    text = (tmp_path / "out" / "figures.md").read_text()
    assert "alignment undefined, same target no pair, other target no pair" in text and "nan" not in text
    assert "m = 1 samples of d = 64" in text


def test_report_names_the_settings(tmp_path, no_pictures):
    assert command(tmp_path / "out", *SMALL, "--only", "17") == 0
    header = (tmp_path / "out" / "figures.md").read_text().split("\n\n")[1]
    for words in ("digits", "m = 4 samples of d = 64", "eta = 0.1", "squared loss (mean over samples)", "full batches",
                  "T = 2 steps", "2 replicas of 256 particles", "n = 8, 2 seeds", "activation silu"):  # fmt: skip
        assert words in header


def test_data_of_ones_own_are_divided_by_the_root_of_d(tmp_path, no_pictures):
    """Oracle: data.scale as the constants of Appendix A need it, unless the user says otherwise, which is refused."""
    own = problem()
    np.savez(tmp_path / "own.npz", inputs=own.inputs, targets=own.targets)
    few = [word for word in SMALL if word not in ("data.count=4",)][:-1]
    given = ("--data", f"npz:{tmp_path / 'own.npz'}", "--only", "17")
    assert command(tmp_path / "out", *few, *given) == 0
    assert 'scale = "sqrt_d"' in (tmp_path / "out" / "config.toml").read_text()
    assert command(tmp_path / "none", *few, *given, "--set", "data.scale=none") == cli.BAD_INPUT


def test_the_report_of_another_study_is_not_replaced(tmp_path, capsys, no_pictures):
    """Figures that need no networks cannot be refused by these; other numbers of particles are the same study."""
    folder = tmp_path / "out"
    assert command(folder, *SMALL, "--only", "17") == 0
    before = (folder / "figures.md").read_bytes()
    assert command(folder, *SMALL, "--only", "17", "--steps", "3") == cli.BAD_INPUT
    assert "training.steps is 2 there and 3 here" in capsys.readouterr().err
    assert (folder / "figures.md").read_bytes() == before
    assert command(folder, *SMALL, "--only", "17", "--set", "simulation.particles=128") == 0


def test_kept_data_of_other_code_are_computed_again(tmp_path, monkeypatch):
    """Oracle: the number of computations."""
    runs, path = [], tmp_path / "a.nc"

    def compute_one():
        runs.append(1)
        return xr.Dataset({"a": ("x", [1.0])})

    for schema in (1, 1, 2):
        monkeypatch.setattr(compute, "SCHEMA", schema)
        compute.kept(path, {}, compute_one)
    assert len(runs) == 2


def test_one_is_not_said_as_many():
    assert [counted(k, "network") for k in (0, 1, 2)] == ["0 networks", "1 network", "2 networks"]
    assert counted(np.int64(2), "network") == "2 networks"  # attributes that were in a file
