"""The blocked kernels and fused passes against numpy; float32 storage; what a step in the steady state allocates."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tpsim import InputError, Network, Problem, Training, simulate
from tpsim.activations import ACTIVATIONS
from tpsim.core import BACKWARD, FORWARD, ParticleSpace, Rows, accumulate, backward_pass, expand, forward_pass, inner
from tpsim.core.kernels import gram, transform
from tpsim.core.micro import BLOCK, CHUNK, WIDE
from tpsim.core.orthogonal import directions, orthonormalise
from tpsim.core.passes import smoothed_output
from tpsim.core.rows import aligned
from tpsim.core.stack import UNITS, unit_of, units
from tpsim.core.tiles import TILE
from tpsim.mlp import Settings, State, backward, forward, update

Array = np.ndarray
RNG = np.random.default_rng(0)
EVERY_SHARE = (1, 2, 3, 4, 5, 6, 7, 10, 13, 17, 23)  # rows m: all code paths, alone and one after the other
# Sums of r or M products of size one, rounded at 1e-16 or 6e-8 each.
TOLERANCE = {np.float64: 1e-12, np.float32: 3e-4}
PROBLEM = Problem(np.random.default_rng(1).standard_normal((5, 8)) / np.sqrt(8), np.array([1.0, -1.0, 1.0, -1.0, 1.0]))


def arrays(*shapes: tuple[int, ...]) -> list[Array]:
    return [RNG.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("particles", [40, BLOCK, 1000, 3 * TILE + 5])
def test_products_with_stored_rows_equal_numpy(dtype, particles):
    """Oracle: numpy. Partly filled chunks, blocks that end early, several members, every way to share m rows."""
    first, second = arrays((2 * CHUNK + 5, particles), (3, particles))
    rows, both = (Rows.of(first, dtype), Rows.of(second, dtype)), np.concatenate([first, second])
    for m in EVERY_SHARE:
        c, x = arrays((m, len(both)), (m, particles))
        tolerance = TOLERANCE[dtype]
        assert_allclose(expand(c, rows, out=x.copy()), x + c @ both, rtol=0, atol=tolerance)
        assert_allclose(inner(x, rows), x @ both.T / particles, rtol=0, atol=tolerance)
        target, w = Rows.of(second, dtype), RNG.standard_normal((m, 3))
        accumulate(target, w, x)
        assert_allclose(target.array, second + w.T @ x, rtol=0, atol=tolerance)
        assert_allclose(gram(x), x @ x.T / particles, rtol=0, atol=1e-13)
        A = RNG.standard_normal((m, m))
        assert_allclose(transform(A, x.copy()), A @ x, rtol=0, atol=1e-12)


def test_the_table_of_shares_divides_a_piece():
    """What the micro-kernels take for granted: no remainder along rows of b, particles, or vectors."""
    for wide in WIDE.values():
        assert CHUNK % wide == 0 and BLOCK * 4 % (wide * 64) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("particles", [40, 1000, 2 * TILE])
@pytest.mark.parametrize("name", ["sigmoid", "silu", "relu"])
def test_passes_equal_their_steps_one_by_one(dtype, particles, name):
    """Oracle: numpy and the activation's slow twin; sigmoid(0) is not 0, so particles past M would be seen."""
    tolerance, phi = TOLERANCE[dtype], ACTIVATIONS[name]
    for m in (1, 4, 10, 20):
        basis, onto, c = arrays((19, particles), (18, particles), (m, 19))
        basis /= 5.0
        h, x, slope, dh = (aligned((m, particles)) for _ in range(4))
        for kernel in (name, phi.evaluate):  # fused, and for a user's activation
            sums = forward_pass(c, Rows.of(basis, dtype), kernel, h, x, slope, Rows.of(onto, dtype))
            expected = c @ basis
            for found, wanted in (
                (h, expected), (x, phi.phi(expected)), (sums.inner, phi.phi(expected) @ onto.T / particles),
                (sums.kernel_h, expected @ expected.T / particles), (sums.mean_h, expected.mean(axis=1)),
                (sums.kernel_x, phi.phi(expected) @ phi.phi(expected).T / particles),
                (sums.mean_x, phi.phi(expected).mean(axis=1)),
            ):  # fmt: skip
                assert_allclose(found, wanted, rtol=0, atol=tolerance)
            if dtype is np.float64 or phi.smooth:  # rounding of h may take relu' across its jump
                assert_allclose(slope, phi.dphi(expected), rtol=0, atol=tolerance)
            part = forward_pass(c, Rows.of(basis, dtype), kernel, h, x, slope, Rows.of(onto, dtype), False)
            assert_allclose(np.diag(part.kernel_x), np.diag(sums.kernel_x), rtol=1e-13)
            assert_allclose(np.diag(part.kernel_h), np.diag(sums.kernel_h), rtol=1e-13)
            assert_array_equal(part.inner, sums.inner)
        back = backward_pass(c, Rows.of(basis, dtype), slope, dh, Rows.of(onto, dtype))
        assert_allclose(dh, expected * slope, rtol=0, atol=tolerance)
        assert_allclose(back.inner, dh @ onto.T / particles, rtol=0, atol=tolerance)
        assert_allclose(back.kernel_x, dh @ dh.T / particles, rtol=0, atol=tolerance)
        assert backward_pass(c, Rows.of(basis, dtype), slope, dh, ()).inner.shape == (m, 0)


@pytest.mark.parametrize("name", ["tanh", "user"])
def test_the_smoothed_output_is_the_quadrature(name):
    """Oracle: the same nodes in numpy."""
    h, (readout,), rho = RNG.standard_normal((3, 700)), arrays((1, 700))[0], np.array([0.0, 0.3, 1.0])
    z, w = np.polynomial.hermite_e.hermegauss(8)
    expected = sum(wk / w.sum() * np.tanh(h + zk * rho[:, None]) @ readout / 700 for zk, wk in zip(z, w, strict=True))
    kernel = "tanh" if name == "tanh" else ACTIVATIONS["tanh"].evaluate
    assert_allclose(smoothed_output(kernel, h, rho, readout, 8), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_passes_do_not_depend_on_the_number_of_threads(dtype):
    """Oracle: bitwise identity, over more units than threads."""
    particles = 5 * TILE - 100
    basis, onto, c = arrays((19, particles), (18, particles), (3, 19))
    found = []
    for threads in (1, 2, 4):
        numba.set_num_threads(threads)
        h, x, slope, dh = (aligned((3, particles)) for _ in range(4))
        sums = forward_pass(c, Rows.of(basis, dtype), "tanh", h, x, slope, Rows.of(onto, dtype))
        back = backward_pass(c, Rows.of(basis, dtype), slope, dh, Rows.of(onto, dtype))
        found.append([h, x, slope, dh, sums.inner, sums.kernel_h, back.inner, back.kernel_x])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert_array_equal(a, b)


def test_units_are_whole_tiles_and_few():
    for particles in (2, TILE, TILE + 1, 100 * TILE, 1 << 22):
        assert unit_of(particles) % TILE == 0 and units(particles) <= UNITS
        assert (units(particles) - 1) * unit_of(particles) < particles <= units(particles) * unit_of(particles)


def test_rows_never_move_and_hand_out_what_they_hold():
    rows, kept = Rows(300, np.float64), []
    for k in (1, CHUNK, 3, 2 * CHUNK):
        rows.append(RNG.standard_normal((k, 300)))
        kept.append([chunk.ctypes.data for chunk in rows.chunks])
    assert all(later[: len(earlier)] == earlier for earlier, later in zip(kept, kept[1:], strict=False))
    whole = rows.array
    assert_array_equal(rows.tail(18), whole[18:])
    assert_array_equal(rows.copy().array, whole)
    rows.truncate(5)
    assert_array_equal(rows.array, whole[:5])
    assert rows.table[1].tolist() == [5]


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-7, 1e-12])
def test_new_directions_are_orthonormal_whatever_is_left_of_an_array(size):
    """Oracle: the identity; near-duplicates at relative size `size`, exact duplicates, zeros, what is not finite."""
    basis = Rows.of(orthonormalise(RNG.standard_normal((30, 4096)), (Rows(4096),)))
    inside = RNG.standard_normal((6, 30)) @ basis.array
    x = inside + size * RNG.standard_normal((6, 4096))
    x[3] = x[1]
    x[4] = inside[4]
    energy = (x**2).mean(axis=1)
    residuals = expand(-inner(x, basis), basis, out=x.copy())
    new = directions(residuals, (basis,), 1e-28 * energy, energy)
    z = np.concatenate([basis.array, new.directions])
    assert_allclose(z @ z.T / 4096, np.eye(len(z)), rtol=0, atol=1e-13)
    assert set(new.rows[:3]) <= {0, 1, 2} and len(new.rows) >= 4
    worst = np.full((2, 4096), np.nan)
    assert directions(worst, (basis,), np.zeros(2), np.ones(2)).rows.size == 0


def test_float32_changes_less_than_the_standard_error():
    """Oracle: the float64 run of the same draws; the bound is its standard error over replicas, and the target 1e-5."""
    options = dict(particles=2048, replicas=4, seed=3, progress=False)
    runs = [
        simulate(PROBLEM, Network(3, "tanh", 1.4), Training(12, 0.3, reduction="mean"), dtype=dtype, **options)
        for dtype in ("float64", "float32")
    ]
    change = np.abs(runs[1].f - runs[0].f).max()
    error = float(np.sqrt(((runs[0].f.std("replica", ddof=1) ** 2).mean()) / 4))
    print(f"float32 changes f by {float(change):.1e}, standard error {error:.1e}")
    assert 0 < change < 1e-5 < error


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-13), ("float32", 1e-5)])
def test_every_basis_stays_orthonormal_through_a_run(dtype, bound):
    """Oracle: the identity, for the bases of both sides and the joint basis of every space."""
    state = State(Network(3, "silu", 1.4), PROBLEM.inputs, Settings(2048, "matched", True, 1e-3, 0, None, dtype), 0)
    everyone = np.arange(5)
    for step in range(15):
        fields = forward(state, step, everyone)
        backward(state, fields)
        update(state, fields, 2.0 * (fields.f - PROBLEM.targets) / 5, np.full(4, 0.3))
    joint = [np.concatenate([rows.array for rows in space._basis()]) for space in state.space.values()]
    for z in [*(rows.array for W in state.hidden.values() for rows in (W.X, W.D)), *joint]:
        assert_allclose(z @ z.T / 2048, np.eye(len(z)), rtol=0, atol=bound)


def test_float32_refuses_what_it_cannot_resolve():
    for wrong, field in (({"dtype": "float16"}, "dtype"), ({"dtype": "float32", "tolerance": 1e-6}, "tolerance")):
        with pytest.raises(InputError, match=f"^{field}: got"):
            simulate(PROBLEM, Network(2), Training(1), 256, 1, progress=False, **wrong)


def test_a_step_in_the_steady_state_allocates_no_fields():
    """Oracle: tracemalloc. A quarter of one field is more than all sums and coefficients of the step together."""
    M, m = 1 << 15, 5
    state = State(Network(2, "tanh", 1.4), PROBLEM.inputs, Settings(M, "matched", True, 3e-3, 0), 0)
    everyone = np.arange(m)

    def step(t: int) -> None:
        fields = forward(state, t, everyone, whole=False)
        backward(state, fields, whole=False)
        update(state, fields, np.zeros(m), np.zeros(3))  # nothing moves: bases stop growing

    for t in range(4):
        step(t)
    tracemalloc.start()
    step(4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < M * 8 / 4 * m


def test_sides_mirror_each_other():
    space, other = ParticleSpace(64), ParticleSpace(64, seed=(1,))
    from tpsim.core import GaussianMatrix

    W = GaussianMatrix(space, other)
    assert W.sides[FORWARD].onto == (W.X, W.V) and W.sides[FORWARD].from_ == (W.U, W.D)
    assert W.sides[BACKWARD].onto == (W.D, W.U) and W.sides[BACKWARD].from_ == (W.V, W.X)


def test_a_second_process_compiles_no_pass(tmp_path, monkeypatch):
    """Oracle: numba's own count of cache hits."""
    script = """if True:
        import numpy as np
        from tpsim.core import passes
        from tpsim.core.rows import Rows
        h = np.zeros((1, 3))
        passes.forward_pass(np.ones((1, 1)), Rows.of(np.ones((1, 3))), "identity", h, h.copy(), h.copy(), ())
        print(*(sum(c.values()) for c in (passes.FORWARD["identity"].stats.cache_hits,
                                          passes.FORWARD["identity"].stats.cache_misses)))
    """
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first, second = (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
        ).stdout.split()
        for _ in range(2)
    )
    assert first == ["0", "1"] and second == ["1", "0"]
