"""Activations: the fused kernels, their NumPy twins and a user's own pair.

Oracles: mpmath at 40 digits (values; derivatives by differentiation of phi), the NumPy twins, exact limits.
Tolerance of the kernels: a value is made of up to four roundings beyond the last, 1.1e-16 each, so 1e-15 max(1, |.|).
"""

import inspect
import pickle
import re
import subprocess
import sys

import mpmath
import numba
import numpy as np
import pytest

from tpsim.activations import ACTIVATIONS, Activation, fingerprint, resolve_activation
from tpsim.core import TILE, elementwise
from tpsim.errors import InputError

KERNEL_TOLERANCE = 1e-15
TWIN_TOLERANCE = 5e-15  # scipy's ndtr and expit carry a few roundings of their own

MP_PHI = {
    "tanh": mpmath.tanh,
    "sigmoid": lambda h: 1 / (1 + mpmath.exp(-h)),
    "erf": mpmath.erf,
    "silu": lambda h: h / (1 + mpmath.exp(-h)),
    "gelu": lambda h: h * mpmath.erfc(-h / mpmath.sqrt(2)) / 2,
    "softplus": lambda h: mpmath.log1p(mpmath.exp(h)),
    "relu": lambda h: h if h > 0 else mpmath.mpf(0),
    "identity": lambda h: h,
}
EVERY = pytest.mark.parametrize("name", sorted(ACTIVATIONS))


def evaluate(activation, h):
    h = np.atleast_2d(np.asarray(h, dtype=np.float64))
    x, slope = np.full_like(h, 7.0), np.full_like(h, 7.0)
    activation.evaluate(h, x, slope)
    return x, slope


def relative(value, reference):
    return np.max(np.abs(value - reference) / np.maximum(1.0, np.abs(reference)))


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(1)
    edges = [0.8, np.nextafter(0.8, 0), 0.8 * np.sqrt(2), 26.6, 37.7, 38.0, 5e-324, 1e-300, 1e-17, 1e-8]
    near = np.concatenate([rng.normal(size=150), rng.uniform(-10, 10, 80), rng.uniform(-40, 40, 40)])
    return np.concatenate([near, edges, np.negative(edges), [50.0, -50.0, 353.9, -354.1, 707.9, -708.1, 1e4, -1e4]])


@EVERY
def test_kernel_against_mpmath(name, points):
    """Oracle: mpmath, 40 digits; the derivative by numerical differentiation of phi at that precision."""
    x, slope = evaluate(ACTIVATIONS[name], points)
    with mpmath.workdps(40):
        phi = MP_PHI[name]
        exact = np.array([float(phi(mpmath.mpf(float(h)))) for h in points])
        if name == "relu":
            exact_slope = (points > 0).astype(float)
        else:
            exact_slope = np.array([float(mpmath.diff(phi, mpmath.mpf(float(h)))) for h in points])
    assert relative(x[0], exact) <= KERNEL_TOLERANCE
    assert relative(slope[0], exact_slope) <= KERNEL_TOLERANCE


@EVERY
def test_twin_against_kernel(name):
    """Oracle: the NumPy twin, on many more points than mpmath can do."""
    activation = ACTIVATIONS[name]
    rng = np.random.default_rng(2)
    h = np.concatenate([rng.normal(size=30_000), rng.uniform(-45, 45, 30_000)]).reshape(3, -1)
    x, slope = evaluate(activation, h)
    assert relative(x, activation.phi(h)) <= TWIN_TOLERANCE
    assert relative(slope, activation.dphi(h)) <= TWIN_TOLERANCE


@pytest.mark.parametrize("name", ["tanh", "erf", "silu", "gelu"])
def test_small_arguments_keep_their_digits(name):
    """Oracle: mpmath; phi(h) / h is right to 1e-15 however small h is, and phi(0) is zero."""
    h = np.concatenate([np.geomspace(1e-300, 0.5, 60), -np.geomspace(1e-300, 0.5, 60)])
    x, _ = evaluate(ACTIVATIONS[name], h)
    with mpmath.workdps(40):
        exact = np.array([float(MP_PHI[name](mpmath.mpf(float(value)))) for value in h])
    assert np.max(np.abs(x[0] / exact - 1)) <= KERNEL_TOLERANCE
    assert evaluate(ACTIVATIONS[name], [0.0, -0.0])[0].tolist() == [[0.0, 0.0]]


LIMITS = {  # phi(-large), phi(large), phi'(-large), phi'(large); None: phi(h) = h
    "tanh": (-1.0, 1.0, 0.0, 0.0),
    "sigmoid": (0.0, 1.0, 0.0, 0.0),
    "erf": (-1.0, 1.0, 0.0, 0.0),
    "silu": (0.0, None, 0.0, 1.0),
    "gelu": (0.0, None, 0.0, 1.0),
    "softplus": (0.0, None, 0.0, 1.0),
    "relu": (0.0, None, 0.0, 1.0),
    "identity": (None, None, 1.0, 1.0),
}


@EVERY
@pytest.mark.parametrize("large", [1e3, 1e6, 1e300, np.finfo(float).max, np.inf])
@pytest.mark.parametrize("twin", [False, True])
def test_limits(name, large, twin):
    """Oracle: the limits at infinity; nothing overflows on the way."""
    h = np.array([[-large, large]])
    activation = ACTIVATIONS[name]
    x, slope = (activation.phi(h), activation.dphi(h)) if twin else evaluate(activation, h)
    left, right, *slopes = LIMITS[name]
    expected = [-large if left is None else left, large if right is None else right]
    np.testing.assert_allclose(x[0], expected, rtol=0, atol=1e-300)
    np.testing.assert_allclose(slope[0], slopes, rtol=0, atol=1e-300)


@EVERY
def test_nan_propagates(name):
    h = np.zeros((2, 20))
    h[0, 3] = h[1, 19] = np.nan
    x, slope = evaluate(ACTIVATIONS[name], h)
    assert np.array_equal(np.isnan(x), np.isnan(h))
    if name != "identity":  # whose derivative is 1
        assert np.array_equal(np.isnan(slope), np.isnan(h))


@EVERY
def test_bits_do_not_depend_on_threads_or_place(name):
    """Five tiles, the last one partial; and each entry alone (scalar code) against its row (vector code)."""
    h = 3.0 * np.random.default_rng(3).normal(size=(2, 4 * TILE + 301))
    results = []
    for threads in (1, 2, 3):
        numba.set_num_threads(threads)
        results.append(evaluate(ACTIVATIONS[name], h))
    for x, slope in results[1:]:
        assert np.array_equal(x, results[0][0]) and np.array_equal(slope, results[0][1])
    for k in range(0, h.shape[1], 37):
        x, slope = evaluate(ACTIVATIONS[name], h[:1, k : k + 1])
        assert x[0, 0] == results[0][0][0, k] and slope[0, 0] == results[0][1][0, k]


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_are_odd_to_the_bit(name):
    h = np.random.default_rng(4).normal(size=(1, 5000))
    x, slope = evaluate(ACTIVATIONS[name], h)
    mirrored, mirrored_slope = evaluate(ACTIVATIONS[name], -h)
    assert np.array_equal(mirrored, -x) and np.array_equal(mirrored_slope, slope)


# --- how the kernels were made ---------------------------------------------------------------------------------------


def chebyshev_powers(function, low, high, nodes):
    """Powers of v in [-1, 1] of the interpolant of `function` at the Chebyshev nodes of [low, high]."""
    at = [mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * nodes)) for k in range(nodes)]
    matrix = mpmath.matrix(nodes, nodes)
    for i, v in enumerate(at):
        for j in range(nodes):
            matrix[i, j] = v**j
    return mpmath.lu_solve(matrix, mpmath.matrix([function((low + high) / 2 + (high - low) / 2 * v) for v in at]))


def printed_coefficients(function):
    """The coefficients in the source of a kernel's polynomial, lowest power first."""
    lines = re.findall(r"^ +p\d* = (-?\d\S*) \+ [vr] \* (\S+)$", inspect.getsource(function), flags=re.MULTILINE)
    if function is elementwise._exp:
        return [float(c) for pair in lines for c in pair]
    return [float(lower) for lower, upper in reversed(lines)] + [float(lines[0][1])]


def test_coefficients_are_the_documented_interpolations():
    """Oracle: mpmath, 60 digits. Tolerance: the last digit of a float64 relative to the largest coefficient."""
    with mpmath.workdps(60):
        radius = mpmath.log(2) / 2 * mpmath.mpf("1.0001")
        shift = mpmath.mpf(5) / 2
        made = {
            "_exp": chebyshev_powers(lambda r: (mpmath.expm1(r) - r) / r**2, -radius, radius, 10),
            "_log1p": chebyshev_powers(
                lambda z: 2 * mpmath.atanh(mpmath.sqrt(z)) / mpmath.sqrt(z), 0, 1 / mpmath.mpf(9), 11
            ),
            "_erf_centre": chebyshev_powers(
                lambda z: mpmath.erf(mpmath.sqrt(z)) / mpmath.sqrt(z), 0, mpmath.mpf("0.64"), 11
            ),
            "_erfc_tail": chebyshev_powers(
                lambda t: mpmath.erfc(1 / t - shift) * mpmath.exp((1 / t - shift) ** 2) / t,
                1 / (6 + shift),
                1 / (mpmath.mpf("0.8") + shift),
                16,
            ),
        }
        for name, powers in made.items():
            scale = radius if name == "_exp" else mpmath.mpf(1)  # exp is written in powers of r, not of r / radius
            expected = [float(c / scale**k) for k, c in enumerate(powers)]
            printed = printed_coefficients(getattr(elementwise, name))
            assert len(printed) == len(expected)
            weights = float(scale) ** np.arange(len(expected))
            assert np.max(np.abs(np.subtract(printed, expected)) * weights) <= 2.3e-16


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "erf", "silu", "gelu", "softplus"])
def test_kernels_are_vector_code(name):
    """Oracle: the optimised LLVM code divides vectors (every one of these has a division), and calls nothing."""
    pair = getattr(elementwise, "_" + name)

    @numba.njit(**elementwise._FUSED)
    def loop(h, x, slope):
        for a in range(h.size):
            x[a], slope[a] = pair(h[a])

    h = np.zeros(8)
    loop(h, h.copy(), h.copy())
    (code,) = loop.inspect_llvm().values()
    assert re.search(r"fdiv[^\n]* <\d+ x double>", code)


def test_second_process_does_not_compile(tmp_path, monkeypatch):
    """Oracle: numba's own count of cache hits."""
    script = """if True:
        import numpy as np
        from tpsim.core import elementwise
        h = np.zeros((1, 3))
        for kernel in (elementwise.relu, elementwise.identity):
            kernel(h, h.copy(), h.copy())
            print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert first == ["0", "1", "0", "1"]
    assert second == ["1", "0", "1", "0"]


# --- a user's own pair, and what is refused --------------------------------------------------------------------------


def swish2(h):
    return h / (1.0 + np.exp(-2.0 * h))


def dswish2(h):
    s = 1.0 / (1.0 + np.exp(-2.0 * h))
    return s + 2.0 * h * s * (1.0 - s)


def test_users_pair_is_evaluated_by_numpy():
    activation = resolve_activation((swish2, dswish2))
    h = np.random.default_rng(5).normal(size=(3, 50))
    x, slope = evaluate(activation, h)
    assert activation.name == "user:swish2" and not activation.builtin
    assert np.array_equal(x, swish2(h)) and np.array_equal(slope, dswish2(h))


def test_a_users_activation_is_not_taken_for_a_builtin_of_its_name():
    activation = resolve_activation(Activation("tanh", lambda h: h**3, lambda h: 3 * h**2))
    assert evaluate(activation, [2.0])[0] == 8.0
    assert not resolve_activation((np.tanh, lambda h: 1 - np.tanh(h))).builtin


@EVERY
def test_builtins_survive_pickling_and_resolve_to_themselves(name):
    activation = ACTIVATIONS[name]
    copy = pickle.loads(pickle.dumps(activation))
    assert copy.builtin and resolve_activation(copy) == activation == resolve_activation(name)


def in_place(h):
    h *= 2.0
    return h


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("swish", "one of"),
        (3, "one of"),
        (None, "one of"),
        ((np.tanh,), "pair"),
        ((np.tanh, 1.0), "pair"),
        ((lambda h: h.sum(), np.ones_like), "float64"),
        ((lambda h: 1.0, np.ones_like), "shape"),
        ((lambda h: h[0], np.ones_like), "shape"),
        ((lambda h: h * 1j, np.ones_like), "complex128"),
        ((np.abs, lambda h: h > 0), "phi' gave an array of shape (2, 3), bool"),
        ((np.abs, lambda h: np.where(h > 0, 1, -1)), "int64"),
        ((lambda h: h.astype(np.float32), np.ones_like), "float32"),
        ((lambda h: h.nothing, np.ones_like), "phi raised AttributeError"),
        ((in_place, np.ones_like), "read-only"),
        ((lambda h: np.exp(h) / np.exp(h).sum(), np.ones_like), "rest of the array"),
        ((lambda h: h / np.linalg.norm(h, axis=0), np.ones_like), "rest of the array"),
    ],
)
def test_refusals_name_the_field(given, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        resolve_activation(given)
    assert caught.value.field == "activation"


def test_a_pair_that_goes_wrong_later_is_an_input_error():
    activation = resolve_activation((lambda h: h if np.max(h) < 3 else h[:1], np.ones_like))
    with pytest.raises(InputError, match="shape"):
        evaluate(activation, [[1.0], [5.0]])


def test_arrays_of_different_shapes_are_refused():
    h = np.zeros((2, 4))
    with pytest.raises(InputError, match="one shape"):
        ACTIVATIONS["tanh"].evaluate(h, np.zeros((1, 4)), h.copy())


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_fingerprint_tells_functions_apart_and_nothing_else():
    prints = {fingerprint(a.phi, a.dphi) for a in ACTIVATIONS.values()}
    assert len(prints) == len(ACTIVATIONS)
    assert fingerprint(lambda h: np.tanh(h) * (1 + 1e-15)) == fingerprint(np.tanh)  # another machine's rounding
    assert fingerprint(lambda h: np.tanh(h) * (1 + 1e-6)) != fingerprint(np.tanh)
    assert fingerprint(np.tanh, np.exp) != fingerprint(np.exp, np.tanh)
    assert re.fullmatch("[0-9a-f]{16}", fingerprint(np.log))  # not finite everywhere


def test_fingerprint_of_losses():
    def squared(f, y):
        return (f - y) ** 2

    signs, halves = np.array([1.0, -1.0]), np.array([0.5, -0.5])
    assert fingerprint(squared, targets=signs) == fingerprint(lambda f, y: f * f - 2 * f * y + y * y, targets=signs)
    assert fingerprint(squared, targets=signs) != fingerprint(lambda f, y: (f + y) ** 2, targets=signs)

    def other(f, y):
        return squared(f, y) * (2.0 - y * y)  # the same where y is a sign

    assert fingerprint(squared, targets=signs) == fingerprint(other, targets=signs)
    assert fingerprint(squared, targets=halves) != fingerprint(other, targets=halves)
