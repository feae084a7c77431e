"""Bugs in the network, the run and its readers: `tpsim.mlp` and what stands on it."""

from __future__ import annotations

from .core import LINEAR, STREAMS, TWIN
from .mutant import Mutant

MLP, RUN, RECORD, PROBES = "tpsim/mlp.py", "tpsim/run.py", "tpsim/record.py", "tpsim/probes.py"
EXACT = "tests/test_exact.py::"
BATCHES = f"{EXACT}test_deep_linear_is_exact[256-None-minibatch-squared-3]"
REPLAY = f"{EXACT}test_deep_linear_probes_are_projections[3]"

NETWORK = (
    Mutant(
        "seed of a layer", "all layers draw from one stream", MLP,
        "seed=(settings.seed, replica, l)", "seed=(settings.seed, replica, 0)", (STREAMS,),
    ),
    Mutant(
        "seed of a replica", "all replicas draw from one stream", MLP,
        "seed=(settings.seed, replica, l)", "seed=(settings.seed, 0, l)",
        ("tests/test_reproducibility.py::test_replicas_and_seeds_are_independent_streams",),
    ),
    Mutant(
        "inputs' basis", "one pass of Gram-Schmidt on the inputs", MLP,
        "            residual -= (basis @ residual) @ basis\n", "",
        (f"{EXACT}test_nearly_equal_inputs_have_the_first_kernel_of_their_gram_matrix",),
    ),
    Mutant(
        "sign of W^1", "W^1 goes up the gradient", MLP,
        "state.first.update(-rates[0] * chi,", "state.first.update(rates[0] * chi,", (LINEAR, TWIN),
    ),
    Mutant(
        "sign of W^l", "W^2..W^L go up the gradient", MLP,
        "state.hidden[l].update(-rates[l - 1] * chi,", "state.hidden[l].update(rates[l - 1] * chi,", (LINEAR, TWIN),
    ),
    Mutant(
        "sign of What", "the read-out goes up the gradient", MLP,
        "(-rates[L] * chi)[:, None]", "(rates[L] * chi)[:, None]", (LINEAR, TWIN),
    ),
    Mutant(
        "rate index", "W^l learns at the rate of W^{l+1}", MLP,
        "-rates[l - 1] * chi", "-rates[l] * chi", (LINEAR, TWIN),
    ),
    Mutant(
        "samples of W^1", "the update of W^1 takes the first inputs, not those of the batch", MLP,
        "fields.dh[1], state.first.coordinates[fields.samples])",
        "fields.dh[1], state.first.coordinates[: len(fields.samples)])",
        (f"{EXACT}test_deep_linear_recorded_seldom[2]",),
    ),
    Mutant(
        "What_0 backward", "the backward pass starts from What_0", MLP,
        "np.ones((len(fields.samples), 1)), (state.readout,)",
        "np.ones((len(fields.samples), 1)), (Rows.of(state.readout_0[None]),)",
        (LINEAR, TWIN),
    ),
    Mutant(
        "What_0 forward", "f_t is read out with What_0", MLP,
        "fields.f = sums.inner[:, 0]", "fields.f = output(state.readout_0[None], fields.x[L])", (LINEAR, TWIN),
    ),
    Mutant(
        "What_0 and x_0", "What_0 is not made orthogonal to x^L_0: f_0 is not 0", MLP,
        "    space.keep(x)\n", "",
        ("tests/test_run.py::test_a_zero_output_at_the_start_is_exact_in_the_limit_and_random_at_finite_width",),
    ),
    Mutant(
        "stale phi'", "phi' of the step before in dh", MLP,
        "backward_pass(*terms, fields.slope[l],",
        "backward_pass(*terms, state._memory[1][2, l - 1, : len(fields.samples)] if fields.step else fields.slope[l],",
        (TWIN,),
    ),
    Mutant(
        "phi' of a layer", "phi'(h^1) in dh of every layer", MLP,
        "backward_pass(*terms, fields.slope[l],", "backward_pass(*terms, fields.slope[1],", (TWIN,),
    ),
    Mutant(
        "Zhat of layer 1", "the part Zhat of Z^{h^1} without s_1", MLP,
        "zhat = expand(self.scale * coordinates, self.draws)", "zhat = expand(coordinates, self.draws)",
        ("tests/test_run.py::test_recorded_quantities_are_consistent",),
    ),
    Mutant(
        "memory", "the fields of a step are written over those of the step before", MLP,
        "        self._memory.reverse()\n", "",
        ("tests/test_families.py::test_increments_are_relative_sizes_and_know_their_rows",),
    ),
)  # fmt: skip

LIMITS = (
    Mutant(
        "tangent kernel", "the share of W^l takes K^l in the place of K^{l-1}", "tpsim/tangent.py",
        "gradients * K[:-1], K[-1:]", "gradients * K[1:], K[-1:]",
        ("tests/test_lazy.py::test_linear_networks_are_exact[2-ntp]",),
    ),
    Mutant(
        "powers of n", "the powers that turn another parametrization into muP are inverted", "tpsim/parametrization.py",
        "(_spread(ours, depth + 1) - _spread(theirs, depth + 1))",
        "(_spread(theirs, depth + 1) - _spread(ours, depth + 1))",
        ("tests/test_limits.py::test_a_row_in_mup_form_has_the_same_matrices",),
    ),
)  # fmt: skip

READERS = (
    Mutant(
        "batch", "samples off the batch update the weights", RUN,
        "chi = training.criterion.derivative(f, y) * in_batch", "chi = training.criterion.derivative(f, y)", (BATCHES,),
    ),
    Mutant(
        "mean", "`mean` divides by the number of samples, not by the batch's size", RUN,
        "return chi / in_batch.sum() if", "return chi / len(f) if", (BATCHES,),
    ),
    Mutant(
        "schedule", "every step learns at the rates of step 0", RUN,
        "update(state, fields, chi, training.rates(step, network.depth))",
        "update(state, fields, chi, training.rates(0, network.depth))",
        (f"{EXACT}test_deep_linear_schedules_and_ragged_batches",),
    ),
    Mutant(
        "squared loss", "chi of the squared loss without its 2", "tpsim/losses.py",
        "lambda f, y: 2.0 * (f - y)", "lambda f, y: f - y",
        ("tests/test_run.py::test_recorded_quantities_are_consistent",),
    ),
    Mutant(
        "logistic loss", "chi of the logistic loss at -y f in the place of y f", "tpsim/losses.py",
        "-y * _sigmoid(-y * f)", "-y * _sigmoid(y * f)",
        ("tests/test_finite.py::test_training_is_sgd_as_table_2_says[mup-tanh-logistic]",),
    ),
    Mutant(
        "recorded layer", "kernels are recorded one layer too high", RECORD,
        "put[name][t, l - 1] = getattr(fields, name)[l]", "put[name][t, l - 1] = getattr(fields, name)[max(l - 1, 1)]",
        (LINEAR,),
    ),
    Mutant(
        "joint kernel", "the joint kernel with step 0 is transposed", RECORD,
        "inner(self._initial[name][l], z)", "inner(z, self._initial[name][l])", (LINEAR,),
    ),
    Mutant(
        "core of a frame", "probes see the updates of the last step at every step", PROBES,
        "_through(state.hidden[l + 1], frame.cores[l + 1],", "_through(state.hidden[l + 1], state.hidden[l + 1].S,",
        (REPLAY,),
    ),
    Mutant(
        "read-out of a frame", "probes see the read-out of the last step at every step", PROBES,
        "h, rho, frame.readout,", "h, rho, state.readout.array[0],", (REPLAY,),
    ),
    Mutant(
        "Zdot of a probe", "no Zdot in W x of a probe", PROBES,
        "matrix.scale * b + history", "0.0 * b + history", (REPLAY,),
    ),
    Mutant(
        "unseen input", "what a probe has off the span of the inputs meets W^1 without s_1", PROBES,
        "rho = first.scale * _residual_norm(", "rho = _residual_norm(",
        (f"{EXACT}test_a_probe_off_the_span_of_the_inputs_meets_fresh_weights",),
    ),
)  # fmt: skip

MUTANTS = (*NETWORK, *LIMITS, *READERS)
