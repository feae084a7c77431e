"""The Tensor-Program core on its own: kernels, spaces, the lazy matrix. Oracles: exact identities and closed forms."""

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.oracles.levels import ALPHA, critical, detectable, spend
from tpsim import InputError, Notice
from tpsim.core import TILE, GaussianMatrix, MaxRank, ParticleSpace, Rows, SpaceFull, expand, inner
from tpsim.core.kernels import inner_rows
from tpsim.core.noise import SOBOL_DIMENSIONS, NormalSource

CATALAN = [1.0, 2.0, 5.0, 14.0, 42.0, 132.0]
RAGGED = 5 * TILE - 100  # five tiles, the last one partial


@pytest.mark.parametrize("m, r, particles", [(1, 1, 3), (3, 5, 700), (10, 23, RAGGED), (2, 0, 40)])
def test_products_over_particles_equal_numpy(m, r, particles):
    """Oracle: numpy. Bound: r or M terms of size O(1), each rounded to 1e-16."""
    rng = np.random.default_rng(0)
    c, basis, x = rng.standard_normal((m, r)), rng.standard_normal((r, particles)), rng.standard_normal((m, particles))
    assert_allclose(expand(c, basis, out=x.copy()), x + c @ basis, rtol=0, atol=1e-13)
    assert_allclose(inner(x, basis), x @ basis.T / particles, rtol=0, atol=1e-14)
    assert_allclose(inner_rows(x, x), (x * x).mean(axis=1), rtol=1e-14)


def test_kernels_refuse_shapes_that_do_not_fit():
    x, basis = np.ones((2, 30)), np.ones((3, 40))
    for call in (lambda: inner(x, basis), lambda: expand(np.ones((2, 4)), basis), lambda: inner_rows(x, basis),
                 lambda: expand(np.ones((2, 3)), basis, out=x)):  # fmt: skip
        with pytest.raises(InputError, match="array of shape"):
            call()


def test_sums_do_not_depend_on_the_number_of_threads():
    """Oracle: bitwise identity."""
    rng = np.random.default_rng(1)
    x, basis = rng.standard_normal((3, RAGGED)), rng.standard_normal((9, RAGGED))
    results = []
    for threads in (1, 2, 3):
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        results.append((inner(x, basis), expand(inner(x, basis), basis), inner_rows(x, x)))
        numba.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_array_equal(a, b)


def test_rows_grow_and_keep_their_content():
    rows, blocks = Rows(7), [np.full((k, 7), float(k)) for k in (1, 20, 3, 40)]
    for block in blocks:
        rows.append(block)
    assert_array_equal(rows.array, np.concatenate(blocks))


def test_draws_depend_on_their_key_only():
    """Oracle: bitwise identity, whatever was drawn before; different keys and tiles are uncorrelated."""
    one, other = NormalSource(4 * TILE, (5, 0, 1)), NormalSource(4 * TILE, (5, 0, 1))
    other.normal((9, 9))
    a, b = one.normal((1, 2)), one.normal((1, 3))
    assert_array_equal(a, other.normal((1, 2)))
    # 6 pairs of tiles, and 1 pair of keys
    tiles = a.reshape(4, TILE)
    correlations = (tiles @ tiles.T / TILE)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < critical(6) / np.sqrt(TILE)
    assert abs(np.mean(a * b)) < critical() / np.sqrt(a.size)
    spend(2 * ALPHA)


def test_sobol_draws_are_stratified_normals_then_pseudo_random():
    """Oracle: each Sobol coordinate has exactly one point in each of the M cells of probability 1/M."""
    from scipy.special import ndtr

    source, plain = NormalSource(1024, (3,), sobol=True), NormalSource(1024, (3,))
    for k in range(SOBOL_DIMENSIONS):
        cells = np.floor(ndtr(source.normal((k,))) * 1024).astype(int)
        assert_array_equal(np.sort(cells), np.arange(1024))
    assert_array_equal(source.normal((77,)), plain.normal((77,)))


@pytest.mark.parametrize("sobol", [False, True])
def test_matched_draws_are_exactly_orthonormal_to_everything(sobol):
    """Oracle: the identity matrix, to rounding."""
    space = ParticleSpace(1024, "matched", sobol)
    kept = np.random.default_rng(0).standard_normal((3, 1024))
    space.keep(kept)
    z = np.concatenate([space.normal((1,), 20), space.normal((2,), 20)])
    assert_allclose(space.inner(z, z), np.eye(40), rtol=0, atol=1e-14)
    assert_allclose(space.inner(z, kept), 0.0, rtol=0, atol=1e-14)
    assert_allclose(space.mean(z), 0.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("tolerance", [1e-10, 1e-3])
def test_bases_stay_orthonormal_with_near_duplicates(tolerance):
    """Oracle: the identity matrix. Bound: Gram-Schmidt twice, 1e-15 a vector and 60 vectors."""
    space, rng = ParticleSpace(2048), np.random.default_rng(0)
    W = GaussianMatrix(space, ParticleSpace(2048, seed=(1,)), tolerance=tolerance)
    x = rng.standard_normal((10, 2048))
    for size in (1.0, 1e-2, 1e-4, 1e-6, 1e-8, 1e-9):
        W @ (x + size * rng.standard_normal(x.shape))
    assert_allclose(inner(W.X.array, W.X.array), np.eye(len(W.X)), rtol=0, atol=1e-13)
    assert (len(W.X) > 40) == (tolerance == 1e-10)  # near-duplicates enter only at the small tolerance


def test_products_keep_second_moments_exactly():
    """Oracle: E[Zhat^{Wx} Zhat^{Wx'}] = s^2 E[x x'], exact in `matched` at any M."""
    source, target = ParticleSpace(512), ParticleSpace(512, seed=(1,))
    W = GaussianMatrix(source, target, scale=1.7, tolerance=1e-12)
    x = np.tanh(np.random.default_rng(0).standard_normal((6, 512)))
    h = W @ x
    assert_allclose(inner(h, h), 1.7**2 * inner(x, x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
def test_transposed_is_the_adjoint(noise):
    """Oracle: <y, W_t x> = <W_t' y, x>, an identity of the algorithm in every mode, updates included."""
    source, target = ParticleSpace(512, noise), ParticleSpace(512, noise, seed=(1,))
    W = GaussianMatrix(source, target, scale=0.8, tolerance=1e-10)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((3, 512)), rng.standard_normal((3, 512))
    for _ in range(3):
        right, left = W.product(x), W.transposed(y)
        W.update(np.array([0.3, -0.2, 0.1]), left, right)
        x, y = np.tanh(left.value + x), np.tanh(right.value + y)
    Wx, Wy = W @ x, W.T @ y
    assert_allclose(inner(y, W @ x), inner(Wy, x), rtol=0, atol=1e-12)
    if noise != "iid":  # W is one fixed matrix: asking again changes nothing (`iid` draws correlate with the past)
        assert_allclose(W @ x, Wx, rtol=0, atol=1e-12)


def test_dropped_energy_is_what_lies_off_the_basis():
    """Oracle: sum_i |x_i - P x_i|^2 / sum_i |x_i|^2 in numpy; the tolerance keeps some arguments and drops others.

    2%: what the two directions of later arguments, of 512, explain of the dropped ones by chance is counted as dropped.
    """
    W = GaussianMatrix(ParticleSpace(512), ParticleSpace(512, seed=(1,)), tolerance=0.1)
    rng = np.random.default_rng(4)
    first = rng.standard_normal((3, 512))
    for x in (first, np.concatenate([first + 0.03 * rng.standard_normal((3, 512)), rng.standard_normal((2, 512))])):
        known, product = len(W.X), W.product(x)
        left = x - inner(x, W.X) @ W.X.array
        assert_allclose(product.dropped, (left**2).sum() / (x**2).sum(), rtol=0.02, atol=1e-14)
    assert (known, len(W.X)) == (3, 5) and 1e-5 < product.dropped < 1e-2


def test_low_rank_updates_act_as_written():
    """Oracle: (W + sum_i w_i y_i x_i'/n) x = W x + sum_i w_i y_i <x_i, x>, formed apart."""
    source, target = ParticleSpace(512), ParticleSpace(512, seed=(1,))
    W = GaussianMatrix(source, target, tolerance=1e-12)
    rng = np.random.default_rng(3)
    x, y, w = rng.standard_normal((4, 512)), rng.standard_normal((4, 512)), rng.standard_normal(4)
    right, left = W.product(x), W.transposed(y)
    plain, plain_back = W @ x, W.T @ y
    W.update(w, left, right)
    assert_allclose(W @ x, plain + (inner(x, x) * w) @ y, rtol=0, atol=1e-12)
    assert_allclose(W.T @ y, plain_back + (inner(y, y) * w) @ x, rtol=0, atol=1e-12)


def moments(noise: str, particles: int, seed: int, without_response: bool = False) -> list[float]:
    """<v, (W'W)^k v> for k = 1..6."""
    source = ParticleSpace(particles, noise, seed=(seed, 0))
    target = ParticleSpace(particles, noise, seed=(seed, 1))
    W = GaussianMatrix(source, target, tolerance=1e-10)
    v = source.normal()
    out, y = [], v
    for _ in CATALAN:
        if without_response:
            y = W.transposed(W.product(y, parts=True).parts.Zhat, parts=True).parts.Zhat
        else:
            y = W.T @ (W @ y)
        out.append(float(inner(v, y)[0, 0]))
    return out


@pytest.mark.parametrize("particles", [64, 1024])
def test_moments_of_the_lazy_matrix_are_catalan_numbers(particles):
    """Oracle: Marchenko-Pastur moments of a square W, exact in `matched`."""
    assert_allclose(moments("matched", particles, 0), CATALAN, rtol=0, atol=1e-10)


def test_both_directions_of_a_matrix_in_one_space():
    """Oracle: Marchenko-Pastur moments, for a weight-tied W: U, V are draws and X, D arguments of one space."""
    space = ParticleSpace(1024)
    W = GaussianMatrix(space, space, tolerance=1e-10)
    v = space.normal()
    y, found = v, []
    for _ in CATALAN:
        y = W.T @ (W @ y)
        found.append(float(inner(v, y)[0, 0]))
    assert_allclose(found, CATALAN, rtol=0, atol=1e-10)


def test_moments_without_zdot_are_rejected():
    """Negative control: without the response terms every moment is zero."""
    assert_allclose(moments("matched", 1024, 0, without_response=True), 0.0, rtol=0, atol=1e-12)


def test_moments_in_width_mode_are_those_of_a_wishart_matrix():
    """Oracle: dense n x n Gaussian matrices, mean and standard deviation over seeds, n = 24, |v|^2 = n fixed."""
    n, seeds = 24, 400
    lazy = np.array([moments("width", n, seed)[:3] for seed in range(seeds)])
    rng = np.random.default_rng(0)
    dense = np.empty((4 * seeds, 3))
    for row in dense:
        G, v = rng.standard_normal((n, n)) / np.sqrt(n), rng.standard_normal(n)
        y = v
        for k in range(3):
            y = G.T @ (G @ y)
            row[k] = v @ y / n
    difference = lazy.mean(0) - dense.mean(0)
    error = np.sqrt(lazy.var(0, ddof=1) / seeds + dense.var(0, ddof=1) / len(dense))
    # kurtosis of the moments is moderate: s.e. of log std is at most 1.5 / sqrt(2 R)
    log_ratio = np.log(lazy.std(0, ddof=1) / dense.std(0, ddof=1))
    log_error = 1.5 * np.sqrt(0.5 / seeds + 0.5 / len(dense))
    print(f"minimum detectable effect: mean {detectable(3) * error}, std {detectable(3) * log_error:.2f} (relative)")
    assert (np.abs(difference) < critical(3) * error).all()
    assert (np.abs(log_ratio) < critical(3) * log_error).all()
    spend(2 * ALPHA)


def test_weight_tied_recurrent_network_is_the_gaussian_process_of_its_kernel():
    """Oracle: quadrature; h_{t+1} = W phi(h_t) + u has Cov(h_{s+1}, h_{t+1}) = s^2 E[phi(h_s) phi(h_t)] + E[u u].

    Source: Yang 2019, "Wide feedforward or recurrent neural networks of any architecture are Gaussian processes".
    """
    from numpy.polynomial.hermite_e import hermegauss

    steps, scale = 4, 1.3
    z, w = hermegauss(80)
    w = w / w.sum()

    def moment(a, b, c):
        """E[tanh(u) tanh(v)] for Var u = a, Var v = b, Cov = c."""
        u = np.sqrt(a) * z[:, None]
        v = (c / np.sqrt(a)) * z[:, None] + np.sqrt(max(b - c * c / a, 0.0)) * z[None, :]
        return float(w @ (np.tanh(u) * np.tanh(v)) @ w)

    K = np.ones((steps + 1, steps + 1))  # h_0 = u: all share the input's variance 1
    for t in range(steps):
        for s in range(t + 1):
            K[s + 1, t + 1] = K[t + 1, s + 1] = scale**2 * moment(K[s, s], K[t, t], K[s, t]) + 1.0
    estimates = []
    for seed in range(16):
        space = ParticleSpace(4096, sobol=True, seed=(seed,))
        W = GaussianMatrix(space, space, scale=scale, tolerance=1e-8)
        u = space.normal()
        h = [u]
        for _ in range(steps):
            h.append(W @ np.tanh(h[-1]) + u)
        stacked = np.concatenate(h)
        estimates.append(inner(stacked, stacked))
    estimates = np.array(estimates)
    error = estimates.std(0, ddof=1) / 4.0
    pairs = steps * (steps + 1) // 2
    inside = np.abs(estimates.mean(0) - K)[1:, 1:] < critical(pairs, 15) * error[1:, 1:] + 1e-12
    print("minimum detectable effect", detectable(pairs, 15) * error.max())
    assert inside.all()
    spend(ALPHA)
    assert error.max() < 0.01


def test_parts_add_up_and_the_response_is_the_stein_estimate():
    """Oracle: Stein's lemma: for y = phi(Wx), Zdot^{W'y} = s^2 x E[phi'(Wx)] for one x."""
    source, target = ParticleSpace(1 << 14, sobol=True), ParticleSpace(1 << 14, sobol=True, seed=(1,))
    W = GaussianMatrix(source, target, scale=1.2, tolerance=1e-8)
    x = source.normal()
    h = W @ x
    product = W.transposed(np.tanh(h), parts=True)
    parts = product.parts
    assert_allclose(parts.Zhat + parts.Zdot + parts.history, product.value, rtol=0, atol=1e-13)
    # a one-dimensional Sobol sum of a smooth function: error far below M^-1/2 = 8e-3; 2e-3 is a quarter of it
    assert_allclose(parts.Zdot, 1.2**2 * x * np.mean(1 - np.tanh(h) ** 2), rtol=0, atol=2e-3 * np.abs(x).max())


def test_as_many_arrays_as_particles_is_refused_with_a_number():
    space = ParticleSpace(40)
    notice = pytest.warns(Notice, match="more arrays than half of its 40 particles")
    with notice, pytest.raises(SpaceFull, match="particles >= "):
        space.normal(count=60)
    assert space.arrays == 1  # the constant: what does not fit is not begun


def test_max_rank_is_refused():
    W = GaussianMatrix(ParticleSpace(256), ParticleSpace(256, seed=(1,)), max_rank=2)
    with pytest.raises(MaxRank, match="max_rank=2"):
        W @ np.random.default_rng(0).standard_normal((3, 256))


@pytest.mark.parametrize(
    "arguments, field",
    [
        ((64, "other"), "noise"),
        ((64, "width", True), "sobol"),
        ((64, "iid", True), "sobol"),
        ((0,), "particles"),
        ((1.5,), "particles"),
    ],
)
def test_unknown_noise_is_refused(arguments, field):
    with pytest.raises(InputError, match=f"^{field}: got"):
        ParticleSpace(*arguments)


def test_what_is_no_array_over_the_space_is_refused():
    space = ParticleSpace(64)
    W = GaussianMatrix(space, ParticleSpace(32, seed=(1,)))
    for x in (np.ones(32), np.ones((2, 3, 64)), np.ones(64) + 1j, np.array(["a"] * 64), 1.0):
        for use in (W.product, space.mean, space.keep):
            with pytest.raises(InputError, match="^x: got"):
                use(x)
    with pytest.raises(InputError, match="^y: got"):
        W.T @ np.ones(64)
    assert (W @ np.arange(64)).shape == (1, 32)  # integers are real numbers


@pytest.mark.parametrize("noise", ["matched", "iid", "width"])
def test_draws_without_a_name_are_independent(noise):
    """Oracle: independence of two matrices and two draws in one space: |correlation| < 6 sigma, fourth moment 3.

    Fourth moments at 8 sigma: the fourth power of a normal is skewed (10 each, 0.16 their mean), which makes 1e-15 of a
    normal mean 1e-9.
    """
    space = ParticleSpace(4096, noise)
    x = space.normal()
    fields = np.concatenate([x, space.normal(), GaussianMatrix(space, space) @ x, GaussianMatrix(space, space) @ x])
    assert np.abs(space.inner(fields, fields)[np.triu_indices(4, 1)]).max() < 6 / 64
    assert np.abs((fields**4).mean(axis=1) - 3).max() < 8 * np.sqrt(96) / 64
    assert np.abs(space.inner(fields**2, fields**2)[np.triu_indices(4, 1)] - 1).max() < 8 * np.sqrt(8) / 64
    spend(ALPHA)


def test_a_name_serves_once():
    space = ParticleSpace(64)
    space.normal((7,))
    with pytest.raises(InputError, match="^key: got"):
        space.normal((7,))


def test_a_zero_argument_has_a_zero_image():
    W = GaussianMatrix(ParticleSpace(64), ParticleSpace(64, seed=(1,)), tolerance=1e-10)
    assert_array_equal(W @ np.zeros((2, 64)), np.zeros((2, 64)))
    assert W.ranks == (0, 0)
