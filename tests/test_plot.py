"""The pictures: that they show the numbers of the run. Oracle, where none is named: numpy on the dataset itself."""

import subprocess
import sys
import warnings
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from tpsim import FileError, InputError, Network, Notice, Problem, Training, plot, simulate
from tpsim.plot import files, read, style
from tpsim.plot.eigenvalues import eigenvalues
from tpsim.plot.particles import density

EXACT = dict(rtol=1e-13, atol=1e-13)  # the same few float64 operations in another order
PANELS = {
    "loss": (plot.loss, "loss"),
    "outputs": (plot.outputs, "f"),
    "probes": (plot.probes, "f_probe"),
    "probe_error": (plot.probe_error, "probe_targets"),
    "kernels": (plot.kernels, "kernel_x"),
    "kernels_h": (partial(plot.kernels, which="h", layer=1, step=0), "kernel_h"),
    "kernels_dh": (partial(plot.kernels, which="dh"), "kernel_dh"),
    "spectra": (plot.spectra, "kernel_x"),
    "densities": (plot.densities, "Z_h"),
    "ranks": (plot.ranks, "rank_forward"),
    "residuals": (plot.residuals, "residual_backward"),
    "feature_change": (plot.feature_change, "feature_change_x"),
}
FIGURES = {
    "kernels": (plot.kernels_figure, "kernel_x"),
    "spectra": (plot.spectra_figure, "kernel_x"),
    "densities": (plot.densities_figure, "Z_h"),
}


def tiny(samples=5, depth=2, steps=6, replicas=3, rate=0.3, targets=None, **options):
    draws = np.random.default_rng(3)
    inputs, probes = draws.standard_normal((samples, 4)) / 2, draws.standard_normal((3, 4)) / 2
    if targets is None:
        targets = np.where(np.arange(samples) % 2, 1.0, -1.0)
    problem = Problem(inputs, targets, probes, np.array([1.0, -1.0, 1.0]))
    training = Training(steps, rate, reduction="mean", **options)
    network = Network(depth, "tanh")
    settings = dict(sobol=False, tolerance=0.05, probe_every=2, snapshots=sorted({0, steps}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # of undefined ratios, without learning
        return simulate(problem, network, training, 256, replicas, progress=False, **settings)


@pytest.fixture(scope="module")
def run():
    return tiny()


@pytest.fixture(autouse=True)
def nothing_shown_and_all_closed(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("show() was called")

    monkeypatch.setattr(plt, "show", refuse)
    monkeypatch.setattr(Figure, "show", refuse)
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 50.0)  # a sixth of what is written for users: time
    before = mpl.rcParams.copy()
    yield
    assert mpl.rcParams == before
    plt.close("all")


def mean_and_error(values):
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))


def curves(ax):
    """The drawn curves: lines with more than the two points of a reference line."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 2]


def bands(ax):
    return [artist for artist in ax.collections if isinstance(artist, PolyCollection)]


def assert_curve(ax, index, x, values, shown=lambda value: value):
    """Curve `index` of `ax` shows the mean of values (R, T) over replicas, and its band the mean +- 2 s.e."""
    mean, error = mean_and_error(values)
    line = curves(ax)[index]
    np.testing.assert_array_equal(line.get_xdata(), x)
    np.testing.assert_allclose(line.get_ydata(), shown(mean), **EXACT)
    corners = bands(ax)[index].get_paths()[0].vertices
    low, high = np.full(len(x), np.inf), np.full(len(x), -np.inf)
    for k, t in enumerate(x):
        low[k], high[k] = corners[corners[:, 0] == t, 1].min(), corners[corners[:, 0] == t, 1].max()
    np.testing.assert_allclose(low, shown(mean - 2 * error), **EXACT)
    np.testing.assert_allclose(high, shown(mean + 2 * error), **EXACT)


@pytest.mark.parametrize("name", PANELS)
def test_panel_with_and_without_ax(run, name):
    draw, _ = PANELS[name]
    made = draw(run)
    _, given = plt.subplots()
    assert draw(run, ax=given) is given
    for ax in (made, given):
        assert isinstance(ax, Axes)
        assert ax.lines or ax.images
        assert ax.get_title() or ax.get_title(loc="left")


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_panels(run, name):
    draw, _ = FIGURES[name]
    given = Figure()
    assert draw(run, figure=given) is given
    assert isinstance(draw(run), Figure)
    panels = [ax for ax in draw(run, layers=[2]).axes if ax.lines or ax.images]
    assert len(panels) == {"kernels": 2, "spectra": 1, "densities": 2}[name]


@pytest.mark.parametrize("name", PANELS)
def test_missing_variable_is_named(run, name):
    draw, variable = PANELS[name]
    with pytest.raises(InputError, match=f"^{variable}: got <missing"):
        draw(run.drop_vars(variable))


def test_a_run_without_replicas_is_refused(run):
    with pytest.raises(InputError, match="no dimension replica"):
        plot.loss(run.isel(replica=0))


@pytest.mark.parametrize("name", FIGURES)
def test_missing_variable_of_a_figure_is_named(run, name):
    draw, variable = FIGURES[name]
    with pytest.raises(InputError, match=f"^{variable}: got <missing"):
        draw(run.drop_vars(variable))


def test_variable_with_no_step_counts_as_missing(run):
    with pytest.raises(InputError, match="^Z_h: got <missing"):
        plot.densities(run.isel(snapshot_step=slice(0, 0)))


def test_loss(run):
    ax = plot.loss(run)
    assert_curve(ax, 0, np.arange(7), run["loss"].values)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mean", r"$\pm$2 s.e. of 3 replicas"]


def test_outputs(run):
    ax = plot.outputs(run)
    assert len(curves(ax)) == 5
    for i in range(5):
        assert_curve(ax, i, np.arange(7), run["f"].values[:, :, i])
    colours = [line.get_color() for line in curves(ax)]
    assert len(set(colours)) == 2
    assert len(set(colours[::2])) == 1  # samples 0, 2, 4 share their target
    assert {line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2} == {-1.0, 1.0}


def test_probes(run):
    ax = plot.probes(run)
    for i in range(3):
        assert_curve(ax, i, [0, 2, 4, 6], run["f_probe"].values[:, :, i])
    assert len(curves(plot.probes(run.drop_vars("probe_targets")))) == 3


def test_probe_error(run):
    ax = plot.probe_error(run)
    f, y = run["f_probe"].values, run["probe_targets"].values
    assert_curve(ax, 0, [0, 2, 4, 6], ((f - y) ** 2).mean(axis=2))
    assert_curve(ax, 1, [0, 2, 4, 6], np.where(f == 0, 0.5, (f > 0) != (y > 0)).mean(axis=2))


def test_probe_error_counts_zero_as_half_and_drops_signs_of_real_targets(run):
    silent = run.assign(f_probe=0.0 * run["f_probe"])
    np.testing.assert_array_equal(curves(plot.probe_error(silent))[1].get_ydata(), 0.5)
    assert len(curves(plot.probe_error(run.assign(probe_targets=run["probe_targets"] / 2)))) == 1


@pytest.mark.parametrize("name", ["rank", "feature_change"])
def test_quantities_per_layer(run, name):
    draw, ends, layers = {
        "rank": (plot.ranks, ("forward", "backward"), [1]),
        "feature_change": (plot.feature_change, ("h", "x"), [0, 1]),
    }[name]
    ax = draw(run)
    expected = [run[f"{name}_{end}"].values.astype(float)[:, :, l] for end in ends for l in layers]
    assert len(curves(ax)) == len(expected)
    for k, values in enumerate(expected):
        assert_curve(ax, k, np.arange(7), values)


def test_residuals(run):
    ax = plot.residuals(run)
    assert len(curves(ax)) == 2
    for k, end in enumerate(("forward", "backward")):
        logarithm = np.log(run[f"residual_{end}"].values[:, :, 1]).mean(axis=2)
        assert_curve(ax, k, np.arange(7), logarithm, np.exp)


def test_samples_outside_the_minibatch_are_skipped_and_zeros_count_as_the_resolution(run):
    values = run["residual_forward"].copy()
    values[:, 3, :, :2] = np.nan  # two samples not in the batch of step 3
    values[:, 5] = np.nan  # nobody
    values[:, 6] = 0.0
    line = curves(plot.residuals(run.assign(residual_forward=values)))[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2, 3, 4, 6])
    expected = np.exp(np.log(values.values[:, 3, 1, 2:]).mean())
    np.testing.assert_allclose(line.get_ydata()[[3, 5]], [expected, 1e-8], **EXACT)


def test_kernel_is_the_mean_sorted_by_target(run):
    order = [0, 2, 4, 1, 3]
    for which in ("x", "h", "dh"):
        image = plot.kernels(run, which, layer=1, step=4).images[0]
        expected = run[f"kernel_{which}"].values[:, 4, 0].mean(axis=0)[np.ix_(order, order)]
        np.testing.assert_allclose(image.get_array(), expected, **EXACT)


def test_kernels_share_one_scale_that_covers_them(run):
    images = [ax.images[0] for ax in plot.kernels_figure(run, "x").axes if ax.images]
    assert len(images) == 4
    assert len({image.get_clim() for image in images}) == 1
    low, high = images[0].get_clim()
    assert low <= min(image.get_array().min() for image in images)
    assert high >= max(image.get_array().max() for image in images)


def test_colours_are_monotone_in_the_value_and_zero_is_white(run):
    norm = plot.kernels(run, "x", limits=(-4.0, 4.0)).images[0].norm
    np.testing.assert_allclose(norm([-4.0, -1.0, 0.0, 1.0, 4.0]), [0.0, 0.25, 0.5, 0.75, 1.0], **EXACT)
    np.testing.assert_allclose(norm.inverse([0.0, 0.25, 0.5, 0.75, 1.0]), [-4.0, -1.0, 0.0, 1.0, 4.0], **EXACT)


def test_spectra(run):
    ax = plot.spectra(run, "h", layer=2)
    lines = [line for line in curves(ax) if line.get_linestyle() == "-"]  # and not the caps of the bars
    for step, line, bars in zip((0, 6), lines, ax.collections, strict=True):
        kernels = run["kernel_h"].values[:, step, 1]
        mean, error = mean_and_error(np.stack([np.linalg.eigvalsh(kernel)[::-1] for kernel in kernels]))
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_allclose(line.get_ydata(), mean, **EXACT)
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, np.stack([mean - 2 * error, mean + 2 * error], axis=1), **EXACT)
    floor = [line.get_ydata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    final = run["kernel_h"].values[:, -1, 1].mean(axis=0)
    np.testing.assert_allclose(floor, [0.05**2 * np.trace(final) / 5], **EXACT)


def test_rounded_eigenvalues_are_drawn_at_the_rounding_of_the_largest(run):
    ax = plot.spectra(run, "h", layer=1)  # five samples in four dimensions
    drawn = curves(ax)[0].get_ydata()
    assert drawn[3] > 1e-3 * drawn[0]
    assert 0 < drawn[4] <= 10 * 5 * np.finfo(float).eps * drawn[0]
    assert ax.get_ylim()[0] < drawn[4]


def test_eigenvalues_of_a_kernel_that_is_not_finite_are_nan(run):
    kernel = run["kernel_x"].sel(layer=1, step=0).copy()
    kernel[1, 0, 0] = np.inf
    found = eigenvalues(kernel).values
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


def test_densities(run):
    ax = plot.densities(run, layer=2, sample=1)
    for k, snapshot in enumerate((0, 1)):
        z = run["Z_h"].values[:, snapshot, 1, 1].ravel()
        estimate, gaussian = curves(ax)[2 * k], curves(ax)[2 * k + 1]
        x = gaussian.get_xdata()
        expected = np.exp(-((x - z.mean()) ** 2) / (2 * z.var())) / np.sqrt(2 * np.pi * z.var())
        np.testing.assert_allclose(gaussian.get_ydata(), expected, **EXACT)
        # The smoothing kernel is cut at four standard deviations: less than 1e-4 of the mass can leave the grid.
        assert np.trapezoid(estimate.get_ydata(), estimate.get_xdata()) == pytest.approx(1.0, abs=1e-4)


def test_density_against_its_slow_twin():
    """Oracle: scipy's direct kernel sum with the same bandwidth.

    A cell of size c moves a particle by at most c/2, which changes a Gaussian of width w by at most its slope
    exp(-1/2) / (w^2 sqrt(2 pi)) times c/2; cutting the kernel at 4 w adds its height there, 3.4e-4 of its top.
    """
    z = np.random.default_rng(0).standard_t(5, 3000)
    grid, height = density(z, 4096)
    spread = min(z.std(), np.subtract(*np.quantile(z, (0.75, 0.25))) / 1.34)
    width = 0.9 * spread * 3000**-0.2
    top = 1 / (width * np.sqrt(2 * np.pi))
    bound = np.exp(-0.5) * top / width * (grid[1] - grid[0]) / 2 + 4e-4 * top
    twin = gaussian_kde(z, width / z.std(ddof=1))(grid)
    print(f"largest difference {np.abs(height - twin).max():.2e}; minimum detectable effect {bound:.2e}")
    assert np.abs(height - twin).max() <= bound


def test_a_point_mass_is_a_line(run):
    ax = plot.densities(run.assign(Z_h=0.0 * run["Z_h"]))
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda run: plot.kernels(run, "y"),
        lambda run: plot.kernels(run, "x", layer=3),
        lambda run: plot.kernels(run, "x", step=7),
        lambda run: plot.spectra(run, "x", layer=0),
        lambda run: plot.spectra_figure(run, layers=[1, 3]),
        lambda run: plot.densities(run, sample=5),
        lambda run: plot.save_all(run, ".", formats=("bmp",)),
    ],
)
def test_bad_arguments(run, wrong):
    with pytest.raises(InputError, match="allowed: "):
        wrong(run)


def test_save_all(run, tmp_path):
    paths = plot.save_all(run, tmp_path / "new" / "figures")
    names = (
        "loss outputs probes probe_error kernels kernels_h spectra spectra_h densities feature_change ranks residuals"
    )
    assert [path.name for path in paths] == [f"{name}.png" for name in names.split()]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert set(plot.missing(run)) == {"law"}  # f_t is not random in the limit of muP
    assert plt.get_fignums() == []


def finite_like(run):
    """A run with the variables that dense networks record, and nothing else."""
    names = ["f", "chi", "loss", "batch", "targets", "kernel_h", "kernel_x", "kernel_dh"]
    kept = run[names]
    kept.attrs = {}
    return kept


def test_save_all_leaves_out_what_is_not_there(run, tmp_path):
    paths = plot.save_all(run[["loss", "f", "targets"]], tmp_path, formats=("svg",))
    assert [path.name for path in paths] == ["loss.svg", "outputs.svg"]
    reasons = plot.missing(finite_like(run))
    assert set(reasons) == {"law", "probes", "probe_error", "densities", "feature_change", "ranks", "residuals"}
    assert reasons["ranks"].startswith("rank_forward: got <missing")
    assert "snapshots" in reasons["densities"]


def test_same_run_same_files(run, tmp_path):
    only = run[["loss"]]
    first, second = (plot.save_all(only, tmp_path / name, ("png", "svg", "pdf")) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_directory_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        plot.save_all(run, tmp_path / "file" / "figures")


def drawn(run):
    """Names of the pictures of a run, every one of them drawn, ticks and all, but for the pixels."""
    names = [name for name in files.PICTURES if name not in plot.missing(run)]
    for name in names:
        picture, figure = files.PICTURES[name], Figure()
        place = {"figure": figure} if picture.panels else {"ax": figure.subplots()}
        picture.draw(run, *picture.options, **place)
        figure.draw_without_rendering()
    return set(names)


def test_one_sample_one_layer_no_step():
    run = tiny(samples=1, depth=1, steps=0)
    assert set(plot.missing(run)) == {"law", "residuals"}
    assert "residuals" not in drawn(run)
    with pytest.raises(InputError, match="^layer: got 1; allowed: at least two hidden layers"):
        plot.residuals(run)
    assert plot.loss(run).lines[0].get_marker() == "o"  # a line through one point would be invisible


def test_one_replica_has_no_band():
    run = tiny(replicas=1)
    for draw in (plot.loss, plot.outputs, plot.feature_change, plot.spectra):
        ax = draw(run)
        assert not ax.collections
        assert "one replica" in ax.get_legend().get_texts()[-1].get_text()


def test_no_learning():
    run = tiny(rate=0.0)
    assert plot.loss(run).get_yscale() == "linear"
    assert plot.feature_change(run).get_ylim() == (-0.02, 1.0)  # rounding is not blown up
    assert plot.residuals(run).get_yscale() == "log"


def test_logistic_loss():
    run = tiny(loss="logistic", batches={"size": 2})
    assert len(curves(plot.probe_error(run))) == 1  # wrong signs only
    assert len(plot.outputs(run).lines) == 5  # no lines at +-1: outputs do not stop there


def test_many_distinct_targets_are_a_colour_scale():
    run = tiny(samples=9, targets=np.linspace(-2.0, 3.0, 9))
    ax = plot.outputs(run)
    assert len(ax.figure.axes) == 2  # with the colour bar
    assert len({tuple(line.get_color()) for line in curves(ax)}) == 9
    (marks,) = [c for c in ax.collections if not isinstance(c, PolyCollection)]
    np.testing.assert_allclose(marks.get_offsets(), [[6.0, y] for y in run["targets"].values])


def test_two_hundred_samples():
    draws, m = np.random.default_rng(5), 200
    z = draws.standard_normal((2, 2, 5, m, 64))  # replica, step, layer, sample, particle
    kernel = z @ z.swapaxes(-1, -2) / 64
    run = xr.Dataset(
        {
            "f": (("replica", "step", "sample"), draws.standard_normal((2, 2, m))),
            "targets": ("sample", np.sign(draws.standard_normal(m))),
            "kernel_x": (("replica", "step", "layer", "sample", "sample2"), kernel),
        },
        {"step": [0, 8], "layer": [1, 2, 3, 4, 5]},
    )
    assert drawn(run) == {"outputs", "kernels", "spectra"}
    panels = [ax for ax in plot.kernels_figure(run).axes if ax.images]
    assert [ax.get_title(loc="left").split(",")[0] for ax in panels[:4]] == ["layer 1", "layer 2", "layer 4", "layer 5"]


def test_partial_run_that_diverged(run):
    broken = run.isel(snapshot_step=[0]).copy(deep=True)
    broken["f"][1, 4:] = 1e140
    broken["f"][2, 5:] = np.inf
    broken["f_probe"][:, 2:] = 1e140
    broken["loss"][:, 5:] = np.nan
    broken["loss"][:, 4] = 1e300
    broken["kernel_x"][1, -1] = np.nan
    broken["feature_change_x"][:, 5] = 1e9
    drawn(broken)
    ax = plot.outputs(broken)
    assert ax.get_yscale() == "symlog"
    line = curves(ax)[0].get_ydata()
    np.testing.assert_allclose(line[:4], run["f"].values[:, :4, 0].mean(axis=0), **EXACT)
    assert np.isnan(line[5:]).all()


def test_loss_scales(run):
    def with_loss(*values):
        return plot.loss(run.assign(loss=run["loss"] * 0 + xr.DataArray(list(values), dims="step")))

    assert with_loss(1, 0.5, 0.2, 0.1, 1e-2, 1e-3, 1e-4).get_yscale() == "log"
    ends_at_zero = with_loss(1, 0.5, 0.2, 0.1, 1e-2, 1e-3, 0)
    assert ends_at_zero.get_yscale() == "log"
    assert 1e-4 < ends_at_zero.get_ylim()[0] < 1e-3
    assert with_loss(0, 0, 0, 0, 0, 0, 0).get_yscale() == "linear"
    assert with_loss(1, 0.9, 0.8, 0.8, 0.7, 0.6, 0.5).get_yscale() == "linear"
    assert with_loss(1, 0, -1, -2, -3, -4, -5).get_yscale() == "linear"
    assert with_loss(1, 0, -1, -2, -3, -1e5, 1e9).get_yscale() == "symlog"
    assert with_loss(*[np.nan] * 7).get_yscale() == "linear"


def test_dense_networks_draw_the_same_way():
    finite = pytest.importorskip("finite")
    draws = np.random.default_rng(1)
    problem = Problem(draws.standard_normal((3, 4)) / 2, [1.0, -1.0, 1.0], draws.standard_normal((2, 4)) / 2)
    quantities = ("f_probe", "kernel_h", "kernel_x")
    run = finite.train(problem, Network(2, "tanh"), Training(3, 0.2), 16, seeds=4, quantities=quantities)
    expected = {"loss", "outputs", "probes", "kernels", "kernels_h", "spectra", "spectra_h"}
    assert set(files.PICTURES) - set(plot.missing(run)) == expected
    assert_curve(plot.outputs(run), 2, np.arange(4), run["f"].values[:, :, 2])
    with pytest.raises(InputError, match="^rank_forward: got <missing"):
        plot.ranks(run)


def test_law_of_a_limit_whose_features_do_not_move():
    draws = np.random.default_rng(1)
    problem = Problem(draws.standard_normal((3, 4)) / 2, [1.0, -1.0, 1.0])
    run = simulate(problem, Network(2, "tanh"), Training(4, 0.2), 64, 2, limit="ntp", progress=False)
    lines = [line.get_ydata() for line in plot.law(run).lines]
    np.testing.assert_array_equal(lines[0], run["f"][0, :, 0])
    np.testing.assert_array_equal(lines[2], run["f_mean"][:, 0])
    band = plot.law(run).collections[1].get_paths()[0].vertices
    std = np.sqrt(run["f_cov"].values[:, 1, 1])
    np.testing.assert_allclose([band[:, 1].min(), band[:, 1].max()], _reach(run["f_mean"].values[:, 1], std), **EXACT)
    assert set(plot.missing(run)) == {"densities", "probes", "probe_error", "ranks", "residuals"}
    assert "law" in drawn(run)


def _reach(mean, std):
    return [(mean - std).min(), (mean + std).max()]


def test_legend_lies_between_title_and_axes(run):
    for draw in (plot.outputs, plot.residuals):
        ax = draw(run)
        ax.figure.draw_without_rendering()
        legend, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
        title = ax._left_title.get_window_extent()
        assert frame.y1 <= legend.y0
        assert legend.y1 <= title.y0
        assert legend.x1 <= ax.figure.bbox.x1


def test_colours_of_classes_differ_in_grey_too():
    """Oracle: relative luminance (Rec. 709); the two colours of targets +-1 and the layers of a deep network."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    pair = [mpl.colors.to_rgb(colour) @ weights for colour in style.NAMED[:2]]
    assert abs(pair[0] - pair[1]) > 0.05
    layers = np.array([np.array(colour[:3]) @ weights for colour in style.colours(6)])
    assert (np.diff(layers) > 0.05).all()


def test_band_of_one_replica_is_nan(run):
    values = read.band(run["loss"].isel(replica=[0]))
    np.testing.assert_array_equal(values.mean, run["loss"].values[0])
    assert np.isnan(values.low).all()
    assert np.isnan(values.high).all()


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, tpsim.plot; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
