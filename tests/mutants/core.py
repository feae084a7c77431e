"""Bugs in `tpsim.core`: the lazy matrix, what is drawn, the kernels."""

from __future__ import annotations

from .mutant import Mutant

TWIN = "tests/test_twin.py::test_the_engine_is_a_dense_network"
LINEAR = "tests/test_exact.py::test_deep_linear_is_exact[256-None-full-squared-3]"
CORE, KERNELS = "tests/test_core.py::", "tests/test_kernels.py::"
MATRIX, SPACE, NOISE = "tpsim/core/matrix.py", "tpsim/core/space.py", "tpsim/core/noise.py"
STREAMS = "tests/test_reproducibility.py::test_no_two_draws_of_a_run_share_a_stream"

COEFFICIENTS = "return self.scale * c, self.scale * b, c @ core.T"
UPDATE = "(g * np.asarray(weights)[:, None]).T @ c"

LAZY_MATRIX = (
    Mutant(
        "forward Zdot", "no Zdot in W x", MATRIX,
        COEFFICIENTS, "return self.scale * c, self.scale * b * (product.direction == BACKWARD), c @ core.T",
        (TWIN, LINEAR),
    ),
    Mutant(
        "backward Zdot", "no Zdot in W' dh", MATRIX,
        COEFFICIENTS, "return self.scale * c, self.scale * b * (product.direction == FORWARD), c @ core.T",
        (TWIN, LINEAR),
    ),
    Mutant(
        "s = t", "the response of dh_t to W x_s summed to s = t - 1, as (B.8) is printed", MATRIX,
        "        c, b = sums[:, :known], sums[:, known:]\n",
        "        c, b = sums[:, :known], sums[:, known:].copy()\n"
        "        if direction == FORWARD:\n"
        "            self.before = known\n"
        "        b[:, self.before if direction == BACKWARD else b.shape[1] :] = 0.0\n",
        (TWIN,),
    ),
    Mutant(
        "scores", "responses are projections on D and X, not on the scores V and U", MATRIX,
        "return self.basis, self.score", "return self.basis, self.other", (TWIN, LINEAR),
    ),
    Mutant(
        "response index", "a response multiplies the direction after its own", MATRIX,
        COEFFICIENTS, "return self.scale * c, self.scale * np.roll(b, 1, axis=1), c @ core.T", (TWIN, LINEAR),
    ),
    Mutant(
        "transposed core", "W' y reads the core S untransposed", MATRIX,
        "core = self.S if product.direction == FORWARD else self.S.T", "core = self.S", (TWIN,),
    ),
    Mutant(
        "update index", "an update adds x y' to the core in the place of y x'", MATRIX,
        UPDATE, "(c * np.asarray(weights)[:, None]).T @ g", (TWIN,),
    ),
    Mutant(
        "stale product", "an update takes the coordinates of x from the step before", MATRIX,
        "        g, c = left.coordinates, right.coordinates\n",
        '        right, self.before = vars(self).get("before", right), right\n'
        "        g, c = left.coordinates, right.coordinates\n",
        (TWIN, LINEAR),
    ),
    Mutant(
        "new directions", "an update leaves out the directions that x brought in this step", MATRIX,
        "g, c = left.coordinates, right.coordinates", "g, c = left.coordinates, right.coordinates[:, : right.known]",
        (TWIN, LINEAR),
    ),
    Mutant(
        "Zhat scale", "Zhat without s_l", MATRIX,
        COEFFICIENTS, "return c, self.scale * b, c @ core.T", (f"{CORE}test_products_keep_second_moments_exactly",),
    ),
    Mutant(
        "Zdot scale", "Zdot without s_l", MATRIX,
        COEFFICIENTS, "return self.scale * c, b, c @ core.T", (TWIN, LINEAR),
    ),
    Mutant(
        "history scale", "s_l on the history as well", MATRIX,
        COEFFICIENTS, "return self.scale * c, self.scale * b, self.scale * (c @ core.T)", (TWIN, LINEAR),
    ),
    Mutant(
        "tolerance", "the tolerance is compared with a squared norm", MATRIX,
        "allowed = self.tolerance**2 * square", "allowed = self.tolerance * square",
        (f"{CORE}test_bases_stay_orthonormal_with_near_duplicates",),
    ),
    Mutant(
        "dropped energy", "what a new direction takes up is reported as dropped", MATRIX,
        "            left[suspects] = new.left\n", "",
        (f"{CORE}test_dropped_energy_is_what_lies_off_the_basis",),
    ),
    Mutant(
        "kept arguments", "later draws are not made orthogonal to the arguments of a matrix", MATRIX,
        "                side.here.keep(new)\n", "", (LINEAR, TWIN),
    ),
    Mutant(
        "known block", "`width`: draws are not projected off the block of the matrix that is known", MATRIX,
        ", complement=side.other)", ")", (f"{CORE}test_transposed_is_the_adjoint",),
    ),
    Mutant(
        "direction's key", "both directions of a matrix draw from one stream", MATRIX,
        "(*self.key, direction, call, int(i))", "(*self.key, call, int(i))",
        (f"{CORE}test_both_directions_of_a_matrix_in_one_space",),
    ),
)  # fmt: skip

DRAWS = (
    Mutant(
        "constant", "the constant is not in the joint basis: draws have a mean", SPACE,
        "            self._kept.append(one)\n", "",
        (f"{CORE}test_matched_draws_are_exactly_orthonormal_to_everything",),
    ),
    Mutant(
        "matched draws", "draws are not projected off what was kept last", SPACE,
        "both = orthonormalise(np.concatenate([new.directions, both[k:]]), others, energy)",
        "both = np.concatenate([new.directions, orthonormalise(both[k:], others, energy[len(new.rows) :])])",
        (f"{CORE}test_matched_draws_are_exactly_orthonormal_to_everything",),
    ),
    Mutant(
        "tiles", "all tiles of particles draw the same numbers", NOISE,
        "self._stream.at((*self.root, *key), tile)", "self._stream.at((*self.root, *key), 0)",
        (f"{CORE}test_draws_depend_on_their_key_only",),
    ),
    Mutant(
        "Sobol coordinates", "every Sobol coordinate is served twice", NOISE,
        "self._sobol[self._served - 1]", "self._sobol[(self._served - 1) // 2]", (STREAMS,),
    ),
    Mutant(
        "Sobol scrambling", "all layers and replicas share one scrambling", NOISE,
        "SeedSequence((*self.root, _SOBOL_STREAM))", "SeedSequence((self.root[0], _SOBOL_STREAM))",
        ("tests/test_noise.py::test_sobol_points_of_different_roots_are_scrambled_independently", STREAMS),
    ),
)  # fmt: skip

LEAVES = (
    Mutant(
        "partly filled chunk", "the last row of a chunk that is not full is left out of sums", "tpsim/core/kernels.py",
        "table[0, k] + piece, table[1, k], m, following)",
        "table[0, k] + piece, table[1, k] - (table[1, k] < CHUNK), m, following)",
        (f"{KERNELS}test_products_with_stored_rows_equal_numpy[1000-float64]",),
    ),
    Mutant(
        "last unit", "the last unit of particles is left out of means", "tpsim/core/kernels.py",
        "for unit in range(1, partial.shape[0]):", "for unit in range(1, partial.shape[0] - 1):",
        (f"{KERNELS}test_products_with_stored_rows_equal_numpy[3077-float64]",),
    ),
    Mutant(
        "half of a block", "a micro-kernel sums every other vector of particles", "tpsim/core/micro.py",
        "for half in (0, VECTOR):", "for half in (0,):",
        (f"{KERNELS}test_products_with_stored_rows_equal_numpy[128-float64]",),
    ),
    Mutant(
        "threads", "sums over particles are cut by the number of threads", "tpsim/core/stack.py",
        "return TILE * -(-tiles // UNITS)", "return TILE * -(-tiles // numba.get_num_threads())",
        (f"{CORE}test_sums_do_not_depend_on_the_number_of_threads",),
    ),
    Mutant(
        "past M", "phi(0) of particles past the last one is counted", "tpsim/core/passes.py",
        "                    for a in range(stop - start, BLOCK):\n                        xb[i, a] = 0.0\n", "",
        (f"{KERNELS}test_passes_equal_their_steps_one_by_one[sigmoid-1000-float64]",),
    ),
    Mutant(
        "phi'(x)", "phi' is evaluated at x in the place of h", "tpsim/core/passes.py",
        "                        xb[i, a], sb[i, a] = pair(hb[i, a])\n",
        "                        xb[i, a] = pair(hb[i, a])[0]\n"
        "                        sb[i, a] = pair(xb[i, a])[1]\n",
        (f"{KERNELS}test_passes_equal_their_steps_one_by_one[silu-1000-float64]",),
    ),
    Mutant(
        "tanh'", "a wrong derivative: tanh' times (1 + exp(-2 abs h))", "tpsim/core/elementwise.py",
        "4.0 * e * share * share", "4.0 * e * share", ("tests/test_activations.py::test_kernel_against_mpmath[tanh]",),
    ),
    Mutant(
        "second pass", "no second pass of Gram-Schmidt, however little the first has left", "tpsim/core/orthogonal.py",
        "if not ((kept * chosen.pivots) >= KEPT).all():", "if (kept < 0.0).any():",
        (f"{KERNELS}test_new_directions_are_orthonormal_whatever_is_left_of_an_array",),
    ),
)  # fmt: skip

MUTANTS = (*LAZY_MATRIX, *DRAWS, *LEAVES)
