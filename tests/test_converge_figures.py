"""The figures of `tpsim converge`: that they show the numbers of the study. Oracle, where none is named: numpy.

Studies here are random numbers in the schema of `Study`, but for one that was computed.
"""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from tpsim import FileError, InputError, Network, Problem, Training
from tpsim.plot import style
from tpsim.plot.particles import density
from validation.converge import Study, study
from validation.converge.figures import CAPTIONS, FIGURES, save_figures
from validation.rates import fit_slope

EXACT = dict(rtol=1e-12, atol=1e-13)  # the same few float64 operations in another order
WIDE = tuple(2**k for k in range(4, 12))
BY_LAYER = [f"{name}{field}" for name in ("kernel_", "feature change ", "smallest eigenvalue ") for field in "hx"]


def made(layers=2, samples=3, widths=(16, 64, 256, 1024), free=(4096,), seeds=4, steps=5, loss="squared", targets=None):
    draws = np.random.default_rng(layers + samples)
    every, l = (*widths, *free), np.arange(1, layers + 1)
    if targets is None:
        targets = np.where(np.arange(samples) % 2, 1.0, -1.0)
    limit = trajectories(draws, 5, steps, samples, 0.01)
    limit["targets"] = ("sample", targets)
    limit["Z_h"] = (
        ("replica", "snapshot_step", "layer", "sample", "particle"), draws.normal(size=(5, 2, layers, samples, 64))
    )  # fmt: skip
    limit = limit.assign_coords(layer=l, snapshot_step=[0, max(steps, 1)])
    limit.attrs["config"] = json.dumps({"training": {"loss": loss}})
    networks = {}
    for n in every:
        networks[n] = trajectories(draws, seeds, steps, samples, n**-0.5).assign_coords(layer=l)
        h = draws.normal(size=(seeds, layers, samples, 40)).astype(np.float32)
        networks[n]["h"] = (("replica", "layer", "sample", "entry"), h)
    rates = made_rates(draws, every, l).assign(
        dense=("width", [n in widths for n in every]), seeds=("width", [seeds] * len(every))
    )
    check = xr.Dataset(coords={"parametrization": ["sp", "ntp", "ip", "mup"], "width": list(every), "layer": l})
    for name in ("size_h", "change_h", "size_x", "change_x"):
        check[name] = (("parametrization", "width", "layer"), draws.uniform(0.1, 2, (4, len(every), layers)))
        check[f"{name}_se"] = 0.1 * check[name]
        check[f"limit_{name}"] = (("parametrization", "layer"), draws.uniform(0.1, 2, (4, layers)))
    check["limit_change_h"][:2] = 0.0
    return Study(limit, networks, rates, check, xr.Dataset(), [(10**7, "needs 3 TB")])


def trajectories(draws, replicas, steps, samples, noise):
    mean = np.linspace(0, 0.5, steps + 1)[:, None] * np.linspace(1, 2, samples)
    f = mean + noise * draws.normal(size=(replicas, steps + 1, samples))
    run = {"f": (("replica", "step", "sample"), f), "loss": (("replica", "step"), (1.5 - f[..., 0]) ** 2)}
    return xr.Dataset(run, {"step": np.arange(steps + 1)})


def made_rates(draws, widths, layers):
    n, labels = np.array(widths, dtype=float), ["f", "loss", *(f"{q}, layer {l}" for q in BY_LAYER for l in layers)]
    found = xr.Dataset(coords={"quantity": labels, "width": list(widths), "bound": ["estimate", "low", "high"]})
    both, shape = ("quantity", "width"), (len(labels), len(n))
    for name, power in (("spread", -0.5), ("bias", -1.0)):
        found[name] = (both, 0.7 * n**power * draws.uniform(0.8, 1.25, shape))
        found[f"{name}_se"] = found[name] * draws.uniform(0.05, 0.2, shape)
    found["bias_resolved"] = (both, np.broadcast_to(n < 1000, shape).copy())
    found["scale"] = ("quantity", draws.uniform(0.5, 2, len(labels)))
    found["limit_se"] = 1e-3 * found["scale"]
    found.attrs["fit_from"] = 20
    for name in ("spread", "bias"):
        use = found["bias_resolved"] if name == "bias" else True
        values = found[name].where(use & (found["width"] >= 20))
        fits = [fit_slope(n, v, e) for v, e in zip(values.values, found[f"{name}_se"].values, strict=True)]
        found[f"{name}_slope"] = (("quantity", "bound"), fits)
    found = found.assign_coords(layer=layers)
    for name in ("w1", "ks"):
        found[name] = (("width", "layer"), 0.8 * n[:, None] ** -0.5 * draws.uniform(0.8, 1.25, (len(n), len(layers))))
        found[f"{name}_se"], found[f"{name}_iid"] = 0.1 * found[name], 0.9 * found[name]
    return found


@pytest.fixture(scope="module")
def example():
    return made()


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 50.0)  # a sixth of what is written for users: time
    yield
    assert plt.get_fignums() == []


def drawn(name, example):
    figure = Figure(layout="constrained")
    assert FIGURES[name](example, figure) is figure
    return figure


def panels(figure):
    return [ax for ax in figure.axes if ax.axison]


def titled(figure, title):
    return next(ax for ax in figure.axes if ax.get_title(loc="left") == title)


def points(ax, colour, marker, filled=True):
    """(x, y) of all points of a colour and marker, and their bars as (low, high)."""
    face = to_rgba(colour) if filled else to_rgba("white")
    found, ends = [], []
    for container in ax.containers:
        line, _, (bars,) = container.lines
        if (
            line.get_marker() == marker
            and same(line.get_color(), colour)
            and to_rgba(line.get_markerfacecolor()) == face
        ):
            found.append(np.column_stack(line.get_data()))
            ends += [segment[:, 1] for segment in bars.get_segments()]
    return np.concatenate(found) if found else np.empty((0, 2)), np.array(ends)


def same(one, other):
    return to_rgba(one) == to_rgba(other)


def straight(ax, colour, linestyle):
    return [
        line.get_data() for line in ax.lines if same(line.get_color(), colour) and line.get_linestyle() == linestyle
    ]


def band_edges(band, x):
    corners = band.get_paths()[0].vertices
    return np.array([[f(corners[corners[:, 0] == t, 1]) for t in x] for f in (np.min, np.max)])


def bars_of(value, error):
    return value[:, None] * np.exp(2 * (error / value)[:, None] * [-1, 1])


def test_curves(example):
    figure = drawn("curves", example)
    t, networks = np.arange(6), list(example.networks.values())
    for i in range(4):  # three samples and the loss
        ax = panels(figure)[i]
        values = [run["loss"].values if i == 3 else run["f"].values[..., i] for run in (*networks, example.limit)]
        lines = [line for line in ax.lines if len(line.get_xdata()) == 6]
        for line, value in zip(lines, values, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), t)
            np.testing.assert_allclose(line.get_ydata(), value.mean(axis=0), **EXACT)
        bands = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
        for band, value in zip(bands[:-1], values[:-1], strict=True):
            np.testing.assert_allclose(band_edges(band, t), np.quantile(value, (0.16, 0.84), axis=0), **EXACT)
        mean, error = values[-1].mean(axis=0), values[-1].std(axis=0, ddof=1) / np.sqrt(5)
        np.testing.assert_allclose(band_edges(bands[-1], t), [mean - 2 * error, mean + 2 * error], **EXACT)
        depth = [line.get_zorder() for line in lines]
        assert depth == sorted(depth)  # wider on top, the limit above all
        assert same(lines[-1].get_color(), "black")


def test_networks_that_diverged_are_left_out_and_counted(example):
    f, loss = example.networks[64]["f"].copy(), example.networks[64]["loss"].copy()
    f[1], loss[1] = np.nan, np.nan
    f[2, 3:], loss[2, 3:] = np.inf, 1e300
    broken = replace(example, networks=example.networks | {64: example.networks[64].assign(f=f, loss=loss)})
    figure = drawn("curves", broken)
    kept = example.networks[64]["f"].values[[0, 3], :, 0].mean(axis=0)
    np.testing.assert_allclose(panels(figure)[0].lines[1].get_ydata(), kept, **EXACT)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:3] == ["$n=16$", "$n=64$ (2 of 4)", "$n=256$"]


@pytest.mark.parametrize(
    ("targets", "shown"),
    [
        ([1.0, -1.0, 1.0, -1.0], [0, 1, 2, 3]),
        ([1.0, 1.0, 1.0, -1.0, -1.0], [0, 3]),
        (np.linspace(2, -3, 11), [0, 3, 7, 10]),
        ([1.0] * 6, [0]),
    ],
)
def test_samples_shown(targets, shown):
    figure = drawn("curves", made(samples=len(targets), targets=np.array(targets), widths=(16,), free=()))
    assert [ax.get_ylabel() for ax in panels(figure)] == [f"$f_t(\\xi_{{{i}}})$" for i in shown] + ["loss"]


def test_targets_are_drawn_but_for_the_logistic_loss(example):
    assert panels(drawn("curves", example))[1].lines[-1].get_ydata()[0] == 1.0
    assert len(panels(drawn("curves", made(loss="logistic")))[1].lines) == len(example.networks) + 1


def test_rates(example):
    figure, rates = drawn("rates", example), example.rates
    cases = [("outputs $f_t$", "f", "black"), ("training loss", "loss", "black")]
    cases += [("kernels of $x^l$", f"kernel_x, layer {l}", style.colours(2)[l - 1]) for l in (1, 2)]
    for title, label, colour in cases:
        ax, row = titled(figure, title), rates.sel(quantity=label)
        n, scale, dense, resolved = (row[key].values for key in ("width", "scale", "dense", "bias_resolved"))
        for name, filled, use in (("spread", True, n > 0), ("bias", False, resolved)):
            value, error = row[name].values / scale, row[f"{name}_se"].values / scale
            for marker, some in (("o", dense & use), ("s", ~dense & use)):
                found, ends = points(ax, colour, marker, filled)
                np.testing.assert_allclose(found, np.column_stack([n, value])[some], **EXACT)
                np.testing.assert_allclose(ends.reshape(-1, 2), bars_of(value, error)[some], **EXACT)
        (arrows,) = [line for line in ax.lines if line.get_marker() == "v" and same(line.get_color(), colour)]
        bound = np.sqrt(row["bias"] ** 2 + 2 * row["bias_se"] ** 2).values / scale
        np.testing.assert_allclose(np.column_stack(arrows.get_data()), np.column_stack([n, bound])[~resolved], **EXACT)
        np.testing.assert_allclose([y[0] for _, y in straight(ax, colour, ":")], [1e-3], **EXACT)


def logarithms(value, relative_error):
    """Of square roots of unbiased estimates, without the bias that the logarithm brings."""
    return np.log(value) + relative_error**2


def test_fitted_powers_and_their_legend(example):
    """Oracle: numpy.polyfit on the logarithms of the widths from `fit_from` on, weights value / error."""
    figure, row = drawn("rates", example), example.rates.sel(quantity="smallest eigenvalue h, layer 2")
    ax, colour, text = titled(figure, "smallest eigenvalue, $h^l$"), style.colours(2)[1], []
    for name, line, use in (("spread", "-", slice(1, None)), ("bias", "--", slice(1, 3))):
        x, value, error = (row[key].values[use] for key in ("width", name, f"{name}_se"))
        power, level = np.polyfit(np.log(x), logarithms(value / float(row["scale"]), error / value), 1, w=value / error)
        estimate, low, high = row[f"{name}_slope"].values
        if name == "bias":  # resolved at two of the fitted widths only: no power
            assert np.isnan(estimate)
            assert not straight(ax, colour, line)
            text.append("not resolved")
            continue
        (ends,) = straight(ax, colour, line)
        np.testing.assert_array_equal(ends[0], x[[0, -1]])
        np.testing.assert_allclose(ends[1], np.exp(power * np.log(ends[0]) + level), rtol=1e-10)
        text.append(f"${estimate:.2f}\\pm{(high - low) / 2:.2f}$")
    assert ax.get_legend().get_texts()[1].get_text() == f"{text[0]}, bias {text[1]}"


def test_the_power_of_a_resolved_bias_is_drawn(example):
    """Oracle: the same, where every width is resolved."""
    rates = example.rates.copy()
    row = rates.sel(quantity="loss")
    rates["bias_resolved"] = rates["bias_resolved"] | True
    slope = fit_slope(row["width"][1:], row["bias"].values[1:], row["bias_se"].values[1:])
    rates["bias_slope"] = rates["bias_slope"].where(
        rates["quantity"] != "loss", xr.DataArray(list(slope), dims="bound")
    )
    ax = titled(drawn("rates", replace(example, rates=rates)), "training loss")
    (ends,) = straight(ax, "black", "--")
    x, value, error = (row[key].values[1:] for key in ("width", "bias", "bias_se"))
    power, level = np.polyfit(np.log(x), logarithms(value / float(row["scale"]), error / value), 1, w=value / error)
    np.testing.assert_allclose(ends[1], np.exp(power * np.log(ends[0]) + level), rtol=1e-10)
    assert (
        ax.get_legend()
        .get_texts()[0]
        .get_text()
        .endswith(f"bias ${slope.estimate:.2f}\\pm{slope.high - slope.estimate:.2f}$")
    )


def test_guides_have_theorys_powers_and_lie_above(example):
    for ax in panels(drawn("rates", example)):
        ends = straight(ax, style.GREY, "-")
        np.testing.assert_allclose(
            [np.diff(np.log(y))[0] / np.diff(np.log(x))[0] for x, y in ends], [-0.5, -1], **EXACT
        )
        highest = max(
            line.get_ydata().max() for line in ax.lines if line.get_marker() in ("o", "s") and line.get_ydata().size
        )
        assert all(y[0] > highest for _, y in ends)


def test_densities(example):
    figure, n = drawn("densities", example), example.rates["width"].values
    axes = np.reshape(panels(figure), (3, 2))
    for l in (1, 2):
        entries = [run["h"].sel(layer=l).values[:, 0].ravel() for run in example.networks.values()]
        entries.append(example.limit["Z_h"].values[:, 1, l - 1, 0].ravel())
        for line, z in zip(axes[0, l - 1].lines, entries, strict=True):
            np.testing.assert_array_equal(np.array(line.get_data()), density(z.astype(float)))
        for ax, name in zip(axes[1:, l - 1], ("w1", "ks"), strict=True):
            value, error = example.rates[name].sel(layer=l).values, example.rates[f"{name}_se"].sel(layer=l).values
            found, ends = points(ax, style.BLUE, "o")
            np.testing.assert_allclose(found, np.column_stack([n, value]), **EXACT)
            np.testing.assert_allclose(ends, bars_of(value, error), **EXACT)
            ((_, iid),) = straight(ax, style.GREY, "--")
            np.testing.assert_array_equal(iid, example.rates[f"{name}_iid"].sel(layer=l))


def test_coordinate_check(example):
    figure, check = drawn("coordinate_check", example), example.coordinate
    axes = np.reshape(panels(figure), (2, 4))
    for row, quantity in zip(axes, ("size_h", "change_h"), strict=True):
        for ax, name in zip(row, check["parametrization"].values, strict=True):
            one = check.sel(parametrization=name)
            for l, colour in zip((1, 2), style.colours(2), strict=True):
                value, error = (one[key].sel(layer=l).values for key in (quantity, f"{quantity}_se"))
                found, ends = points(ax, colour, "o")
                np.testing.assert_allclose(found, np.column_stack([check["width"], value]), **EXACT)
                np.testing.assert_allclose(ends, bars_of(value, error), **EXACT)
                lines = [y[0] for _, y in straight(ax, colour, "--")]
                assert lines == [v for v in [float(one[f"limit_{quantity}"].sel(layer=l))] if v > 0]
            said = [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []
            assert said == (["limit: 0"] if quantity == "change_h" and name in ("sp", "ntp") else [])
        assert len({ax.get_ylim() for ax in row}) == 1
    titles = ["standard (SP)", "neural tangent (NTP)", "integrable (IP)", r"maximal update ($\mu$P)"]
    assert [ax.get_title(loc="left") for ax in axes[0]] == titles


@pytest.mark.parametrize(
    ("zero", "said"), [([3, 4, 5], r"limit: 0 for $l\geq3$"), ([2, 4], "limit: 0 for $l=2,4$"), ([], None)]
)
def test_layers_that_vanish_are_named(zero, said):
    example = made(layers=5, widths=(16,), free=())
    example.coordinate["limit_size_h"].loc[{"parametrization": "ip", "layer": zero}] = 0.0
    legend = titled(drawn("coordinate_check", example), "integrable (IP)").get_legend()
    assert (legend and legend.get_texts()[0].get_text()) == said


def nothing_known(example):
    """A study of which every network diverged, and whose limit is zero."""
    empty = {n: run * np.nan for n, run in example.networks.items()}
    rates = example.rates * np.nan
    rates = rates.assign(dense=example.rates["dense"], bias_resolved=example.rates["bias_resolved"] & False)
    limit = (example.limit * 0.0).assign(targets=example.limit["targets"])
    rates, limit = rates.assign(scale=0.0 * example.rates["scale"]), limit.assign_attrs(example.limit.attrs)
    return replace(example, networks=empty, rates=rates.assign_attrs(example.rates.attrs), limit=limit)


EDGES = {
    "one network": lambda: without_errors(made(widths=(64,), free=(), seeds=1)),
    "one layer, one sample, no step": lambda: made(layers=1, samples=1, widths=(), free=(100, 300), steps=0),
    "six layers, many widths, many samples": lambda: made(6, 200, WIDE, (10**4, 10**5, 10**6), loss="logistic"),
    "nothing known": lambda: nothing_known(made()),
    "all the same": lambda: all_the_same(made()),
}


def without_errors(example):
    """What one seed leaves undefined."""
    rates, check = example.rates.copy(), example.coordinate.copy()
    for name in ("spread", "bias", "spread_se", "bias_se", "w1_se", "ks_se", "limit_se", "spread_slope", "bias_slope"):
        rates[name] = np.nan * rates[name]
    rates["bias_resolved"] = rates["bias_resolved"] & False
    for name in ("size_h_se", "change_h_se"):
        check[name] = np.nan * check[name]
    return replace(example, rates=rates, coordinate=check, limit=example.limit.isel(replica=[0]))


def all_the_same(example):
    """Networks without spread, and entries that are all alike."""
    networks = {n: xr.ones_like(run) for n, run in example.networks.items()}
    rates = example.rates.assign(spread=0.0 * example.rates["spread"], spread_se=0.0 * example.rates["spread_se"])
    return replace(example, networks=networks, rates=rates)


@pytest.mark.parametrize("edge", EDGES)
def test_edges(edge):
    example = EDGES[edge]()
    for name in FIGURES:
        for ax in panels(drawn(name, example)):
            assert ax.get_xlabel() or ax.get_ylabel() or ax.get_title(loc="left")
            assert len(ax.get_xticks()) and len(ax.get_yticks())  # logarithms without anything positive have none
            assert np.isfinite([*ax.get_xlim(), *ax.get_ylim()]).all()


def test_text_has_the_sizes_of_the_style_and_legends_cover_nothing():
    example = made(layers=6, widths=WIDE, free=(4096, 10**5, 10**6))
    allowed = {style.STYLE[key] for key in ("font.size", "axes.titlesize", "xtick.labelsize", "legend.fontsize")}
    for name in ("curves", "rates"):
        figure = drawn_out(name, example)
        texts = [t for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
        assert {text.get_fontsize() for text in texts} <= allowed
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert all(box.y1 <= ax.get_tightbbox().y0 for ax in panels(figure))
        boxes = [ax.get_tightbbox() for ax in panels(figure)]
        for k, one in enumerate(boxes):
            assert all(not one.overlaps(other) for other in boxes[k + 1 :])


def drawn_out(name, example):
    figure = drawn(name, example)
    figure.draw_without_rendering()
    return figure


def test_save_figures(tmp_path):
    paths = save_figures(made(layers=1, widths=(16,), free=()), tmp_path / "new" / "figures")
    assert [path.name for path in paths] == [f"{name}.png" for name in FIGURES] + ["figures.md"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths[:-1])
    report = paths[-1].read_text()
    assert set(CAPTIONS) == set(FIGURES)
    for name, caption in CAPTIONS.items():
        assert f"({name}.png)" in report
        assert caption in report
    assert "n = 10000000: needs 3 TB" in report


def test_same_study_same_files(example, tmp_path, monkeypatch):
    for name in ("rates", "densities", "coordinate_check"):  # time
        monkeypatch.delitem(FIGURES, name)
    first, second = (save_figures(example, tmp_path / name, ("png", "pdf")) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_what_cannot_be_written(example, tmp_path):
    with pytest.raises(InputError, match="^formats: got 'bmp'"):
        save_figures(example, tmp_path, ("bmp",))
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        save_figures(example, tmp_path / "file" / "figures")


def test_figures_without_a_figure_are_new_ones(example):
    for draw in FIGURES.values():
        assert isinstance(draw(example), Figure)
    plt.close("all")


def test_a_computed_study():
    draws = np.random.default_rng(1)
    problem = Problem(draws.normal(size=(2, 3)), [1.0, -1.0])
    found = study(
        problem, Network(2, "tanh"), Training(3, 0.2), widths=(), matrix_free=(8, 16, 32), seeds=4, particles=256,
        replicas=4, fit_from=8, progress=False,
    )  # fmt: skip
    figures = {name: drawn(name, found) for name in FIGURES}
    assert len(panels(figures["rates"])) == 8
    value, _ = points(titled(figures["rates"], "outputs $f_t$"), "black", "s")
    row = found.rates.sel(quantity="f")
    np.testing.assert_allclose(value[:, 1], row["spread"] / row["scale"], **EXACT)
    assert len(panels(figures["curves"])[0].lines) >= 4
    assert any(isinstance(c, LineCollection) for c in panels(figures["coordinate_check"])[0].collections)
