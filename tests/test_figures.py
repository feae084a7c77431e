"""`tpsim figures`: that pictures and captions show the numbers of the runs. Oracle, where none is named: numpy.

Studies here are made up in the schema of `finite.sweep` and `tpsim.simulate`, from known powers of the width, but for
those of the command's tests.
"""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import tpsim
from tpsim import Network, Problem, Training, cli, config
from tpsim.plot import style
from validation.figures import command, compute, files, measure
from validation.figures.captions import Statement, judged
from validation.figures.look import COLOURS, MARKERS
from validation.figures.metrics import DODGE, FIGURES, Metrics, metrics_figure
from validation.figures.registry import DEPTH
from validation.figures.registry import FIGURES as ALL
from validation.figures.study import PARAMETRIZATIONS, Settings, Study

EXACT = dict(rtol=1e-9, atol=0)  # eigenvalues 1e-3 of the largest, of matrices that differ by rounding of 1e-16
WIDTHS = tuple(2**k for k in range(3, 11))
SAMPLES, SEEDS, REPLICAS, LAYERS = 5, 8, 4, 3
# What the paper says: muP moves and keeps its features, IP loses them, NTP and SP do not move.
CHANGE = {"mup": 0.0, "ip": 0.5, "ntp": -0.5, "sp": -0.5}
# Both for eigenvalues of K/n and for those of K, whose powers are larger by 1.
DIVERSITY = {"mup": 0.0, "ip": -1.4, "ntp": 0.0, "sp": 0.0}
JOINT = {"mup": 0.0, "ip": -0.5, "ntp": -1.4, "sp": -1.4}  # besides that of the diversity


def gram(smallest, draws):
    """Gram matrices (..., m, m) with eigenvalues smallest, 1, .., 1 in a basis drawn at random."""
    basis = np.linalg.qr(draws.normal(size=(SAMPLES, SAMPLES)))[0]
    values = np.ones((*smallest.shape, SAMPLES))
    values[..., 0] = smallest
    return (basis * values[..., None, :]) @ basis.T


def variables(change, smallest, apart, draws):
    """One run: feature change, and kernels with smallest eigenvalues `smallest` and, jointly, smallest * apart."""
    K = gram(smallest, draws)
    mixed = (1 - apart[..., None, None]) * K  # [K, cK; cK, K] has the eigenvalues (1 +- c) of K
    found = {}
    for kind in "hx":
        found[f"kernel_{kind}"] = np.stack([K, K], axis=-4)  # the step before the layer
        found[f"kernel_{kind}0"] = np.stack([K, mixed], axis=-4)
        found[f"feature_change_{kind}"] = np.stack([np.zeros_like(change), change], axis=-2)
    return found


def dataset(found, lead, coordinates, layers):
    every = {"layer": np.arange(1, layers + 1), "step": [0, 100], "joint_step": [0, 100], **coordinates}
    run = xr.Dataset(coords=every)
    for name, values in found.items():
        square = ("sample", "sample2") if name.startswith("kernel") else ()
        step = "joint_step" if name.endswith("0") else "step"
        run[name] = ((*lead, step, "layer", *square), values)
    return run


def made(
    change=CHANGE, diversity=DIVERSITY, joint=JOINT, activations=("silu", "tanh", "relu"), seeds=SEEDS, noise=0.02,
    layers=LAYERS, widths=WIDTHS, replicas=REPLICAS, loss=0.01, steps=100, tolerance=0.05,
):  # fmt: skip
    """A study whose metrics are powers of n times noise, and limits 0 where the power is negative."""
    draws = np.random.default_rng(5)
    n = np.array(widths, dtype=float)[:, None, None]
    shape = (len(widths), seeds, layers)

    def power(exponent):
        return n**exponent * np.exp(noise * draws.normal(size=shape))

    runs, limits = [], {}
    for name in PARAMETRIZATIONS:
        found = variables(0.5 * power(change[name]), 0.01 * power(diversity[name]), 0.3 * power(joint[name]), draws)
        run = dataset(found, ("width", "replica"), {"width": list(widths), "replica": np.arange(seeds)}, layers)
        run["loss"] = (("width", "replica", "step"), np.full((len(widths), seeds, 2), loss))
        run["diverged_at"] = (("width", "replica"), np.full((len(widths), seeds), -1))
        runs.append(run)
        still = {kind: float(powers[name] == 0) for kind, powers in
                 (("change", change), ("diversity", diversity), ("joint", joint))}  # fmt: skip
        size = (replicas, layers)
        spread = np.exp(0.01 * draws.normal(size=size))
        found = variables(
            np.full(size, np.nan) if change[name] > 0 else 0.5 * still["change"] * spread,
            0.01 * still["diversity"] * spread, np.full(size, 0.3 * still["joint"]), draws,
        )  # fmt: skip
        one = dataset(found, ("replica",), {"replica": np.arange(replicas)}, layers)
        if change[name] > 0:  # IP: features are zero
            one = one.assign({key: 0.0 * one[key] for key in one.data_vars if key.startswith("kernel")})
        one["loss"] = (("replica", "step"), np.full((replicas, 2), 1.0 if name == "ip" else 0.01))
        one.attrs["config"] = json.dumps({"simulation": {"tolerance": tolerance}})
        limits |= {(phi, name): one for phi in activations}
    whole = xr.concat(runs, "parametrization").assign_coords(parametrization=list(PARAMETRIZATIONS))
    networks = xr.concat([whole] * len(activations), "activation").assign_coords(activation=list(activations))
    problem = Problem(np.eye(SAMPLES), np.ones(SAMPLES))
    settings = Settings(
        problem, Network(layers), Training(steps, 0.1, reduction="mean"), tuple(widths), seeds, replicas=replicas
    )
    return Study(settings, networks, limits)


@pytest.fixture(scope="module")
def paper():
    return made()


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 50.0)  # time


def drawn(name, study):
    figure = Figure(layout="constrained")
    assert FIGURES[name].draw(study, figure) is figure
    return figure


def points(ax, name):
    """(x, y, low, high) of the networks of one parametrization."""
    container = next(c for c in ax.containers if c.get_label() == f"_{name}")
    line, _, (bars,) = container.lines
    assert to_rgba(line.get_color()) == to_rgba(COLOURS[name]) and line.get_marker() == MARKERS[name]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    return *map(np.asarray, line.get_data()), ends[:, 0], ends[:, 1]


def marked(ax, gid):
    return [line for line in ax.lines if line.get_gid() == gid]


def smallest(matrix):
    return np.linalg.eigvalsh(matrix)[0]


def test_points_are_medians_and_quantiles_of_the_networks(paper):
    """Figure 1: medians over seeds with bars from the 16% to the 84% quantile, of changes and smallest eigenvalues."""
    own = paper.networks.sel(activation="silu", layer=2)
    for ax, metric in zip(drawn("1", paper).axes, ("change", "diversity"), strict=True):
        for place, name in enumerate(PARAMETRIZATIONS):
            of_one = own.sel(parametrization=name)
            if metric == "change":
                values = of_one["feature_change_h"].sel(step=100).values
            else:
                grams = of_one["kernel_h"].sel(step=100).transpose("width", "replica", "sample", "sample2").values
                values = np.array([[smallest(K) for K in line] for line in grams])
            expected = np.quantile(values, (0.5, 0.16, 0.84), axis=1)
            x, *found = points(ax, name)
            np.testing.assert_allclose(x, np.array(WIDTHS) * DODGE ** (place - 1.5), **EXACT)
            np.testing.assert_allclose(found, expected, **EXACT)


def test_joint_diversity_is_that_of_initial_and_final_features_together(paper):
    """Figure 2: the Gram matrix of [h_1^0, h_1^T, h_2^0, ..], in the paper's order, built entry by entry."""
    own = paper.networks.sel(activation="silu", layer=2, parametrization="ntp", width=64)
    K, mixed = own["kernel_h"], own["kernel_h0"]
    values = []
    for r in range(SEEDS):
        whole = np.zeros((2 * SAMPLES, 2 * SAMPLES))
        for i in range(SAMPLES):
            for j in range(SAMPLES):
                at = dict(replica=r, sample=i, sample2=j)
                whole[2 * i, 2 * j] = K.sel(step=0, **at)
                whole[2 * i + 1, 2 * j + 1] = K.sel(step=100, **at)
                whole[2 * i, 2 * j + 1] = mixed.sel(joint_step=100, **at)
                whole[2 * j + 1, 2 * i] = mixed.sel(joint_step=100, **at)
        values.append(smallest(whole))
    (ax,) = drawn("2", paper).axes
    assert points(ax, "ntp")[1][WIDTHS.index(64)] == pytest.approx(np.median(values), rel=1e-9)


def test_joint_gram_is_not_symmetric_in_time():
    """E[Z_0(i) Z_T(j)] is no symmetric matrix: features h_0, h_T of 7 neurons. Oracle: their Gram matrix."""
    h0, hT = np.random.default_rng(0).normal(size=(2, 3, 7))
    first, mixed, last = (
        xr.DataArray(a @ b.T / 7, dims=("sample", "sample2"), coords={"sample": [0, 1, 2], "sample2": [0, 1, 2]})
        for a, b in ((h0, h0), (h0, hT), (hT, hT))
    )
    both = np.concatenate([h0, hT])
    found = measure.joint(first, mixed, last).transpose("sample", "sample2").values
    np.testing.assert_allclose(found, both @ both.T / 7, rtol=1e-14)


def test_limits_are_horizontal_lines_with_bands(paper):
    """Figure 1: mean over replicas +- 2 standard errors."""
    ax = drawn("1", paper).axes[1]
    for name in ("mup", "ntp", "sp"):
        grams = paper.limits["silu", name]["kernel_h"].sel(layer=2, step=100).values
        values = np.array([smallest(K) for K in grams])
        (line,) = marked(ax, f"limit {name}")
        np.testing.assert_allclose(line.get_ydata(), values.mean(), **EXACT)
        error = 2 * values.std(ddof=1) / np.sqrt(REPLICAS)
        bands = [patch for patch in ax.patches if to_rgba(patch.get_facecolor())[:3] == to_rgba(COLOURS[name])[:3]]
        (band,) = bands
        np.testing.assert_allclose(band.get_y(), values.mean() - error, **EXACT)
        np.testing.assert_allclose(band.get_height(), 2 * error, rtol=1e-9)


def test_limits_that_are_zero_are_marked_below_everything_else(paper):
    change, diversity = drawn("1", paper).axes
    for ax, zero in ((change, {"ntp", "sp", "ip"}), (diversity, {"ip"})):
        assert {name for name in PARAMETRIZATIONS if marked(ax, f"limit 0 {name}")} == zero
        assert {name for name in PARAMETRIZATIONS if marked(ax, f"limit {name}")} == set(PARAMETRIZATIONS) - zero
        assert [text.get_text() for text in ax.texts] == ["limit 0"]
        low, high = np.log(ax.get_ylim())
        shown = np.log(np.concatenate([points(ax, name)[1] for name in PARAMETRIZATIONS]))
        assert (shown.min() - low) / (high - low) > 0.1  # the strip of the marks


def test_undefined_relative_change_is_replaced_and_said():
    """IP's limit: Z_0 = 0. The line is the root mean square of Z^{h_T}; where that is zero it is marked."""
    study = made()
    (mark,) = marked(drawn("1", study).axes[0], "limit 0 ip")
    assert mark.get_color() == COLOURS["ip"]
    limit = study.limits["silu", "ip"]
    limit["kernel_h"] = limit["kernel_h"] + 4.0 * xr.DataArray(np.eye(SAMPLES), dims=("sample", "sample2"))
    K = limit["kernel_h"].sel(layer=2, step=100).values
    expected = np.sqrt(np.diagonal(K, axis1=1, axis2=2).mean(axis=1)).mean()
    (line,) = marked(drawn("1", study).axes[0], "limit ip")
    np.testing.assert_allclose(line.get_ydata(), expected, **EXACT)
    text = FIGURES["1"].caption(study)
    said = "IP: Z^{h_0} = 0, so the relative change has no limit in terms of Z; the line is the rms of Z^{h_T}, "
    assert f"{said}{expected:.3g}; that of networks grows with n." in text


def test_change_of_ip_is_not_listed_among_the_limits_of_the_change(paper):
    """The arrow is of another quantity: networks can tend to another number."""
    text = FIGURES["1"].caption(paper)
    assert "IP: Z^{h_0} = 0" in text and "the arrow is the rms of Z^{h_T}, 0; that of networks can tend" in text
    assert "NTP 0, SP 0" in text and "IP 0" not in text.split("Limit of the feature change: ")[1].split("IP:")[0]
    assert "turn towards" not in text


def test_networks_narrower_than_the_gram_matrix_are_marked_as_zero():
    """Networks of width 4 with 5 samples: the smallest eigenvalue is zero up to rounding."""
    study = made(widths=(4, *WIDTHS))
    features = np.random.default_rng(1).normal(size=(len(PARAMETRIZATIONS), SEEDS, SAMPLES, 4))
    K = np.einsum("prin,prjn->prij", features, features)
    study.networks["kernel_h"].loc[dict(width=4, step=100)] = K[None, :, :, None]
    ax = drawn("1", study).axes[1]
    for name in PARAMETRIZATIONS:
        (line,) = marked(ax, f"zero {name}")
        assert line.get_xdata() == pytest.approx([4 * DODGE ** (PARAMETRIZATIONS.index(name) - 1.5)])
        assert len(points(ax, name)[0]) == len(WIDTHS)


def test_diverged_networks_are_left_out_and_counted():
    study = made()
    lost = dict(width=1024, parametrization="mup", replica=[0, 1])
    for name in ("feature_change_h", "kernel_h"):
        study.networks[name].loc[lost] = np.nan
    study.networks["diverged_at"].loc[lost] = 7
    kept = study.networks["feature_change_h"].sel(activation="silu", layer=2, step=100, width=1024)
    expected = np.median(kept.sel(parametrization="mup").values[2:])
    assert points(drawn("1", study).axes[0], "mup")[1][-1] == pytest.approx(expected)
    assert "Left out, because they diverged: 2 of muP." in FIGURES["1"].caption(study)
    assert "diverged" not in FIGURES["1"].caption(made())


def test_powers_of_the_width_are_found(paper):
    """Known powers: within the 95% interval's half width, doubled, and that is small for 2% noise over four octaves."""
    for metric, known in (("change", CHANGE), ("diversity", DIVERSITY)):
        for name, curve in measure.curves(paper, "silu", metric, "h", 2).items():
            trend = curve.trend()
            assert abs(trend.power - known[name]) < 2 * trend.reach < 0.05, (metric, name)
            assert trend.least == 64


def verdicts(name, study):
    """Quoted words -> verdict, of a caption."""
    lines = [line for line in FIGURES[name].caption(study).splitlines() if line.startswith('- "')]
    return {line.split('"')[1]: line.split('": ')[1].split(".")[0] for line in lines}


STABLE = "only muP maintain stable feature representations"
BOTH = "only muP achieves both feature learning capability and feature richness"
HIGHER = "The muP parametrization maintains higher eigenvalues as width increases"
TRAINED = "sufficient for all widths to achieve [...] training loss smaller than 0.05"
OTHERS = "other parametrizations (NTP, IP, SP) show substantial decay in eigenvalues with increasing width"


def test_captions_agree_with_data_that_the_paper_describes(paper):
    for name in ("1", "2"):
        assert set(verdicts(name, paper).values()) == {"agrees"}, verdicts(name, paper)
    tanh = verdicts("3", paper)
    assert tanh.pop("leading to a gradual decrease in feature diversity as width goes up") != "agrees"
    assert set(tanh.values()) == {"agrees"}
    assert set(verdicts("4", paper).values()) == {"agrees"}


def test_captions_disagree_with_data_that_contradict_the_paper():
    lazy = made(change=CHANGE | {"ntp": 0.0})
    assert verdicts("1", lazy)[STABLE] == "does not agree" == verdicts("1", lazy)[BOTH]
    decaying = made(diversity=DIVERSITY | {"mup": -1.4})
    assert verdicts("1", decaying)[BOTH] == "does not agree"
    assert verdicts("3", decaying)["leading to a gradual decrease in feature diversity as width goes up"] == "agrees"
    joint = made(joint=JOINT | {"mup": -1.4, "sp": 0.0})
    assert verdicts("2", joint)[HIGHER] == "does not agree" == verdicts("2", joint)[OTHERS]
    untrained = verdicts("1", made(loss=0.5, steps=1000))
    assert untrained[TRAINED] == "does not agree" and untrained[STABLE] == "agrees"


def test_captions_do_not_decide_what_data_do_not():
    """Two seeds have no interval worth the name, and powers with noise of 300% none that is short enough."""
    assert set(verdicts("2", made(seeds=2)).values()) == {"not decided by these data"}
    assert verdicts("1", made(noise=3.0))[STABLE] == "not decided by these data"


def test_limits_that_the_tolerance_does_not_resolve_are_not_drawn():
    """One step drops up to tolerance^2 of the mean diagonal: 1/100 of (4 + .01) / 5 against a limit of 3e-3."""
    study = made(tolerance=0.1)
    assert marked(drawn("2", made(tolerance=0.05)).axes[0], "limit mup")
    (ax,) = drawn("2", study).axes
    assert not marked(ax, "limit mup") and not marked(ax, "limit 0 mup")
    assert marked(ax, "limit 0 ntp") and marked(ax, "limit 0 ip")
    text = FIGURES["2"].caption(study)
    assert "limit of the joint diversity of muP: below 0.008, what its tolerance resolves" in text
    assert "The limit of the joint diversity of muP is not resolved." in text and "diversity: muP" not in text
    found = verdicts("2", study)
    assert found[HIGHER] == "not decided by these data" and found[OTHERS] == "agrees"
    assert marked(drawn("14", study).axes[2], "limit mup")  # layer 1 drops nothing


def test_no_width_that_is_wide_enough_decides_nothing():
    """As with --max-width 32 and 10 samples: powers are fitted to n >= 4 m = 20 and 8 m = 40, here to no width."""
    study = made(widths=(8, 16))
    for name in ("1", "2", "3", "15"):
        found = verdicts(name, study)
        found.pop(TRAINED, None)  # speaks of all widths
        assert set(found.values()) == {"not decided by these data"}, found
    assert "No width is wide enough for a power of the joint diversity." in FIGURES["2"].caption(study)


def test_training_loss_is_judged_after_as_many_steps_as_the_paper_trains():
    assert verdicts("1", made(loss=0.01, steps=100))[TRAINED] == "agrees"
    assert verdicts("1", made(loss=0.5, steps=100))[TRAINED] == "not decided by these data"
    assert verdicts("1", made(loss=0.01, steps=2000))[TRAINED] == "not decided by these data"
    assert "after 100 steps (the paper: 1000 steps)" in FIGURES["1"].caption(made(steps=100))


def test_widths_that_have_left_the_start_and_others_have_no_common_power():
    """IP's loss falls to 1% of the initial below n = 256 and stays beyond it; fits begin at n = 64."""
    study = made()
    study.networks["loss"].loc[dict(parametrization="ip", step=0)] = 1.0
    assert verdicts("1", study) == verdicts("1", made())  # all have left
    study.networks["loss"].loc[dict(parametrization="ip", width=[256, 512, 1024], step=100)] = 0.95
    found, text = verdicts("1", study), FIGURES["1"].caption(study)
    assert found[STABLE] == found["IP achieves feature learning but suffers from feature collapse"]
    assert found[STABLE] == "not decided by these data"
    assert "Of IP's feature change nothing is decided" in text and "below 0.9 of the initial one" in text
    assert found["SP keeps features close to initialization"] == "agrees"
    study.networks["loss"].loc[dict(parametrization="ip", step=100)] = 0.95
    study.networks["loss"].loc[dict(parametrization="ip", width=32, step=100)] = 0.01
    assert verdicts("1", study)[STABLE] == "agrees"  # no width of the fit has left


def test_powers_that_depend_on_the_division_by_n_decide_nothing():
    """Powers -1 of K/n are powers 0 of K: one decays, the other does not."""
    study = made(diversity=DIVERSITY | {"ip": -1.0}, joint=JOINT | {"ntp": -1.0})
    found, text = verdicts("1", study), FIGURES["1"].caption(study)
    assert found["IP achieves feature learning but suffers from feature collapse"] == "not decided by these data"
    assert "(after dividing by n; K itself: power 0.0" in text or "(after dividing by n; K itself: power -0.0" in text
    assert verdicts("2", study)[OTHERS] == "not decided by these data"
    assert "after dividing by n" not in FIGURES["1"].caption(made())
    gradual = made(diversity=DIVERSITY | {"mup": -0.5})
    assert verdicts("3", gradual)["leading to a gradual decrease in feature diversity as width goes up"] != "agrees"


def test_sentences_judged_in_other_figures_say_of_which_they_were_said(paper):
    for name, own, foreign in (("1", 1, ()), ("2", 2, ()), ("3", 3, (1, 2)), ("4", 4, (1, 2)), ("15", 0, (1, 2))):
        text = FIGURES[name].caption(paper)
        marks = {int(part.split(";")[0]) for part in text.split("Said of Figure ")[1:]}
        assert marks == set(foreign) and own not in marks
    assert "Said of Figure 1; here: " in FIGURES["1"].caption(made(layers=1))


@pytest.mark.filterwarnings("ignore:undefined ratios")  # IP: h^2_0 = 0
def test_drawn_limits_are_those_of_their_parametrization(tmp_path):
    """Blue muP, vermillion IP, green NTP, orange SP. Oracle: runs of `simulate` in the constants of Appendix A."""
    points = np.random.default_rng(0).normal(size=(3, 4)) / 2
    problem, network, training = Problem(points, [1.0, -1.0, 1.0]), Network(2), Training(5, 0.1, reduction="mean")
    settings = Settings(problem, network, training, (8, 16), 2, ("silu",), particles=256, replicas=2)
    study = compute.make_study(settings, ["14"], tmp_path)
    figure = drawn("14", study)
    colours = {"mup": style.BLUE, "ip": style.VERMILLION, "ntp": style.GREEN, "sp": style.ORANGE}
    rate, heights = {"mup": 0.1, "ip": 0.1, "ntp": 0.1, "sp": (0.4, 0.1, 0.1)}, {}
    for name, colour in colours.items():
        run = tpsim.simulate(
            problem, replace(network, init_scale=2**0.5), replace(training, learning_rate=rate[name]), 256, 2,
            limit=name,
        )  # fmt: skip
        last = run.sel(layer=1, step=5)
        wanted = [last["feature_change_h"].mean(), np.mean([smallest(K) for K in last["kernel_h"].values])]
        for ax, value in zip(figure.axes[:2], map(float, wanted), strict=True):
            own = [line for line in ax.lines if line.get_color() == colour]
            limits = [line for line in own if str(line.get_gid()).startswith("limit")]
            assert {line.get_gid().split()[-1] for line in limits} == {name}  # frozen NTP and SP have equal values
            drawn_at = [line.get_ydata()[0] for line in limits if len(line.get_xdata()) == 2]
            assert drawn_at == ([] if value == 0 else [pytest.approx(value, rel=1e-9)]), name
        heights[name] = float(wanted[1])
    assert abs(heights["mup"] / heights["ip"] - 1) > 1e-3 < abs(heights["mup"] / heights["ntp"] - 1)


@pytest.mark.parametrize("name", ["1", "2", "3", "15"])
def test_labels_are_no_longer_than_their_axes(name, paper):
    figure = drawn(name, paper)
    figure.canvas.draw()
    for ax in figure.axes:
        assert ax.yaxis.label.get_window_extent().height <= ax.get_window_extent().height


def test_captions_say_where_networks_of_ip_have_not_come_to_their_limit(paper):
    """Its limit stays at loss 1; networks have loss 0.01, or 0.6."""
    words = "Networks of IP have left their start at the widest n (loss 0.01), where the limit still is (loss 1)"
    assert words in FIGURES["1"].caption(paper)
    assert "have left their start" not in FIGURES["1"].caption(made(loss=0.6))


def test_captions_name_limits_and_thresholds(paper):
    text = FIGURES["1"].caption(paper)
    change = paper.limits["silu", "mup"]["feature_change_h"].sel(layer=2, step=100).values
    assert f"Limit of the feature change: muP {change.mean():.3g} +- {2 * change.std(ddof=1) / 2:.1g}, NTP" in text
    assert "the paper plots means, here medians" in text and "here medians" in FIGURES["2"].caption(paper)
    assert "here medians" not in FIGURES["15"].caption(paper)
    assert "n >= 64" in text and "-0.25" in text and "8 networks" in text
    assert "tolerance of 0.05" in FIGURES["4"].caption(paper) and "tolerance" not in text


def test_statements_are_judged_in_words():
    said = [Statement(f"words {k}", lambda study, k=k: (f"measured {k}.", k)) for k in (True, False, None)]
    assert judged(said, None) == (
        '\n\n- "words True": agrees. measured True.\n- "words False": does not agree. measured False.\n'
        '- "words None": not decided by these data. measured None.'
    )


@pytest.mark.parametrize("name", sorted(FIGURES, key=int))
def test_every_figure_draws_its_own_features(name, paper):
    """The figure of h or x of a layer changes with these, and with no others."""
    study = replace(paper, networks=paper.networks.copy(deep=True))
    before = [points(ax, "mup")[1] for ax in drawn(name, study).axes]
    shown = FIGURES[name].draw.keywords["shown"]
    assert len(before) == len(shown.metrics)
    here = dict(activation=shown.activation, layer=shown.layer)
    others = study.networks.copy(deep=True)
    for variable in (f"feature_change_{shown.kind}", f"kernel_{shown.kind}", f"kernel_{shown.kind}0"):
        study.networks[variable].loc[here] = 3.0 * study.networks[variable].loc[here]
        others[variable] = 3.0 * others[variable]
        others[variable].loc[here] = paper.networks[variable].loc[here]
    after = [points(ax, "mup")[1] for ax in drawn(name, study).axes]
    np.testing.assert_allclose(after, 3.0 * np.array(before), **EXACT)
    rest = [points(ax, "mup")[1] for ax in drawn(name, replace(paper, networks=others)).axes]
    np.testing.assert_array_equal(rest, before)


def test_layer_2_of_a_network_of_one_layer_is_its_last():
    study = made(layers=1)
    assert "layer 1 of 1" in FIGURES["1"].caption(study)
    assert "layer 1" in drawn("1", study).get_suptitle()


def test_one_replica_and_one_width_can_be_drawn():
    study = made(replicas=1, widths=(64,), seeds=1)
    ax = drawn("1", study).axes[1]
    assert marked(ax, "limit mup") and not ax.patches
    assert set(verdicts("1", study).values()) - {"agrees"} == {"not decided by these data"}
    assert "+-" not in FIGURES["1"].caption(study).split("Limit of the")[1].split("Powers")[0]


def test_figures_can_be_drawn_again_from_the_file_of_numbers(tmp_path):
    """Oracle: captions and points of the study itself."""
    paper = made(activations=("silu",))
    (tmp_path / "figures.nc").write_bytes(files.numbers(paper))
    again = files.load_study(tmp_path / "figures.nc", paper.settings)
    for name in ("1", "2", "13"):
        assert FIGURES[name].caption(again) == FIGURES[name].caption(paper)
    np.testing.assert_array_equal(points(drawn("2", again).axes[0], "mup"), points(drawn("2", paper).axes[0], "mup"))


# The command


TINY = (
    "--max-width", "16", "--steps", "2", "--seeds", "3", "--workers", "1",
    "--set", "simulation.particles=256", "--set", "simulation.replicas=2",
)  # fmt: skip


def figures(folder, *more):
    return cli.main(["figures", "--output", str(folder), *TINY, *more])


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """One file in the format of CIFAR-10: 40 images of random bytes, of four classes."""
    folder = tmp_path_factory.mktemp("cifar")
    images = np.random.default_rng(3).integers(0, 256, size=(40, 3073), dtype=np.uint8)
    images[:, 0] = np.arange(40) % 4
    images.tofile(folder / "data_batch_1.bin")
    return f"cifar10:{folder}"


@pytest.fixture(scope="module")
def finished(cifar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures") / "out"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setitem(style.STYLE, "savefig.dpi", 50.0)
        assert figures(folder, "--data", cifar, "--only", "2,5,17", "--quiet") == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_command_leaves_pictures_captions_and_numbers(finished):
    """In the paper's setting, but for widths, seeds, steps and pixels: airplane and automobile, ten images."""
    pictures = {f"figure-{k:02d}.{kind}" for k in (2, 5, 17) for kind in ("png", "pdf")}
    others = {"figures.md", "figures.nc", "summary.json", "config.toml", "networks", "data"}
    assert {path.name for path in finished.iterdir()} == pictures | others
    text = (finished / "figures.md").read_text()
    for name in (2, 5, 17):
        assert f"## Figure {name}: " in text and f"(figure-{name:02d}.png)" in text
    second = text.split("## Figure 2: ")[1].split("## Figure 5: ")[0]  # widths 8 and 16, twenty vectors
    assert second.count("not decided by these data") == 2 == second.count("No width is wide enough")
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["figures"] == ["2", "5", "17"] and set(summary["files"]) == pictures | others - {
        "networks", "data"
    }  # fmt: skip
    resolved = config.read(finished / "config.toml")
    assert resolved.figures.widths == [8, 16] and resolved.training.steps == 2 and resolved.figures.seeds == 3
    assert resolved.data["source"] == "cifar10" and resolved.data["count"] == 10
    assert resolved.data["classes"] == ["airplane", "automobile"]


def test_command_keeps_what_it_computed(copied, cifar, capsys):
    """The files of networks and limits are not written again, and their numbers are the same."""

    def stamps():
        return {path: path.stat().st_mtime_ns for name in ("networks", "data") for path in (copied / name).iterdir()}

    before, numbers = stamps(), (copied / "figures.nc").read_bytes()
    assert len(before) > 8
    assert figures(copied, "--data", cifar, "--only", "2") == 0
    assert stamps() == before
    assert (copied / "figures.nc").read_bytes() == numbers
    assert not (copied / "figure-05.png").exists()  # the folder holds the figures of the last call
    out = capsys.readouterr().out
    assert out.startswith("plan\n  figures     2\n") and "m = 10, d = 3072" in out
    assert "3 seeds: 24 networks" in out and "written to" in out


def test_other_settings_do_not_mix(finished, cifar, capsys):
    """Networks of other training are refused before anything else is computed; limits are not overwritten."""
    stamp = (finished / "data" / "limit-mup-silu.nc").stat().st_mtime_ns
    assert figures(finished, "--data", cifar, "--only", "1", "--steps", "3") == cli.BAD_INPUT
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and "training.steps is 2 there and 3 here" in error
    assert (finished / "data" / "limit-mup-silu.nc").stat().st_mtime_ns == stamp


def test_kept_data_are_computed_again_for_other_settings_and_after_damage(tmp_path):
    runs, path = [], tmp_path / "folder" / "a.nc"

    def compute_one():
        runs.append(1)
        return xr.Dataset({"a": ("x", [1.0])})

    for identity in ({"T": 1}, {"T": 1}, {"T": 2}):
        assert float(compute.kept(path, identity, compute_one)["a"][0]) == 1.0
    assert len(runs) == 2
    path.write_bytes(path.read_bytes()[:100])
    assert float(compute.kept(path, {"T": 2}, compute_one)["a"][0]) == 1.0
    assert len(runs) == 3


def test_list_names_all_figures(capsys):
    assert cli.main(["figures", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*map(str, range(1, 18)), "depths", "time", "training", "learning_rate"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "1,18"], "--only: got '18'; allowed: names out of 1, 2"),
        (["--only", ""], "--only: got"),
        (["--only", "7", "--set", "network.depth=2"], "network.depth >= 3"),
        (["--only", "3", "--set", 'figures.activations=["silu"]'], "tanh among figures.activations"),
        (["--max-width", "4"], "--max-width: got 4; allowed: an integer >= 8"),
        (["--data", "imagenet"], "data.source: got 'imagenet'"),
        (["--data", "cifar10:/no/such/folder"], "/no/such/folder"),
        (["--data", "gaussian_mixture", "--set", "data.scale=none"], "data.scale: got 'none'; allowed: \"sqrt_d\""),
        (["--set", "training.learning_rate=[0.1,0.1,0.1,0.1]"], "one number, the eta of Appendix A"),
        (["--set", "simulation.limit=ntp"], "simulation.limit: got 'ntp'"),
        (["--set", "simulation.noise=width"], "simulation.noise: got 'width'"),
        (["--set", 'figures.activations=["silu", "swoosh"]'], "figures.activations: got 'swoosh'"),
        (["--set", "figures.widths=[]"], "figures.widths: got []"),
        (["--set", "figures.seeds=0"], "figures.seeds: got 0"),
        (["--set", "sweep.seeds=3"], "sections that this command uses"),
        (["--workers", "0"], "--workers: got 0"),
    ],
)
def test_bad_input_is_one_line(options, message, tmp_path, capsys):
    assert cli.main(["figures", "--output", str(tmp_path / "out"), *options]) == cli.BAD_INPUT
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1] and error.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_folder_with_other_things_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert cli.main(["figures", "--output", str(tmp_path), "--only", "17"]) == cli.BAD_INPUT
    assert "--output" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_figures_that_cannot_be_are_left_out_with_a_notice():
    """A network of one hidden layer has no layer 2 or 3."""
    read = config.read(None, ["network.depth=1", 'figures.activations=["silu"]'], command.DEFAULT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = command.chosen(None, read)
    assert set(ALL) - set(names) == {*DEPTH, "3", "4"}
    texts = [str(warning.message) for warning in caught]
    assert "figures 6, 9, 12, 15 are left out: they need network.depth >= 2" in texts
    assert "figures 4 are left out: they need relu among figures.activations" in texts


def test_short_options_are_overrides():
    arguments = cli._parser().parse_args(
        ["figures", "--data", "cifar10:/a b", "--max-width", "4096", "--steps", "1000", "--seeds", "4"]
    )
    read = config.read(None, command.overrides(arguments), command.DEFAULT)
    assert read.data == {"source": "cifar10", "path": "/a b"}
    assert read.figures.widths == [2**k for k in range(3, 13)] and read.figures.seeds == 4
    assert read.training.steps == 1000 and read.training.learning_rate == 0.1 and read.training.reduction == "mean"


def test_panel_has_units_and_legend():
    figure = Figure(layout="constrained")
    metrics_figure(made(), figure, shown=Metrics("silu", "x", 3))
    assert [ax.get_xlabel() for ax in figure.axes] == ["width $n$"] * 3
    assert all("x_0" in ax.get_ylabel() or "x_i" in ax.get_ylabel() for ax in figure.axes)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:4] == [r"$\mu$P", "IP", "NTP", "SP"] and f"{SEEDS} networks" in texts[4] and "limit" in texts[5]
