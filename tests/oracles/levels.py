"""What the statistical tests may cost: the probability that the whole suite fails without cause is at most SUITE.

A test is statistical if random numbers of the engine, or of dense networks, decide whether it passes: every change of
the order of draws throws its dice again. Each such test spends its level here, `spend`, and is listed in LEVELS with
all that it may spend; `test_levels.py` adds them up, and every run of pytest says what it has spent. Independence is
not asked for: probabilities are added (Boole). Critical values are those of normal means and of Student; that they
hold for what the engine draws is measured by `validation.null_statistics`.

Not in the sum: negative controls, which fail where their power fails; tests of statistical methods on data made by a
generator of their own with a fixed seed, which no change of the engine can move; and bounds that are no quantiles, at
distances from what is measured that no seed bridges.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from scipy.stats import norm
from scipy.stats import t as student

SUITE = 1e-4
ALPHA = 5e-7  # of one comparison, over all its entries together, unless it says otherwise

MARK = "false-alarm probability"


def critical(entries: int = 1, freedom: float | None = None, alpha: float = ALPHA) -> float:
    """Two-sided critical value in standard errors, for `entries` at level alpha together (Bonferroni)."""
    tail = alpha / 2 / entries
    return float(norm.isf(tail) if freedom is None else student.isf(tail, freedom))


def detectable(entries: int = 1, freedom: float | None = None, alpha: float = ALPHA, power: float = 0.9) -> float:
    """Smallest effect, in standard errors, that `critical` finds in one entry with this power."""
    return critical(entries, freedom, alpha) + float(
        norm.isf(1 - power) if freedom is None else student.isf(1 - power, freedom)
    )


def confirmed(check: Callable[[int], None], level: float, attempts: int = 2) -> None:
    """Call check(0), and where it fails check(1), ..., each with seeds of its own: fails if all `attempts` do.

    For comparisons whose level is not ours to choose: without cause all fail with probability level^attempts, at the
    critical values, and hence the smallest detectable effects, of a single one.
    """
    for attempt in range(attempts):
        try:
            check(attempt)
            break
        except AssertionError as error:
            if attempt == attempts - 1:
                raise
            print(f"attempt {attempt} failed, to be confirmed: {error}")
    spend(level**attempts)


_spent: Counter[str] = Counter()  # by the item that runs


def spend(level: float) -> None:
    """Note that the test that runs fails without cause with this probability; refuse what LEVELS does not allow it."""
    item = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
    if not item:
        return
    _spent[item] += level
    allowed = LEVELS.get(name_of(item), (0, 0.0))[1]
    assert _spent[item] <= allowed * (1 + 1e-9), f"{item} spends {_spent[item]:.3g}; LEVELS allows it {allowed:.3g}"
    print(f"{MARK} {level:.17g}")


def name_of(item: str) -> str:
    """test_file::test_name of an item."""
    file, _, test = item.split("[")[0].partition("::")
    return f"{os.path.basename(file).removesuffix('.py')}::{test.split('::')[-1]}"


def total() -> float:
    """Return the bound for the whole suite, slow tests included."""
    return sum(items * level for items, level in LEVELS.values())


# How many of a test's items are statistical, and what each may spend.
LEVELS: dict[str, tuple[int, float]] = {
    "test_accuracy::test_the_errors_of_a_nonlinear_network_are_within_the_target": (1, 4e-6),
    "test_agreement::test_converge_shows_that_zdot_is_missing": (1, 3 * ALPHA),
    "test_agreement::test_the_right_engine_passes": (2, 1e-6),
    "test_converge::test_bias_uses_what_has_a_known_mean": (1, ALPHA),
    "test_converge::test_both_kinds_agree": (1, 2 * ALPHA),
    "test_converge::test_networks_meet_their_limits": (1, ALPHA),
    "test_converge::test_spread_falls_like_the_root_of_the_width": (1, ALPHA),
    "test_convergence::test_extrapolated_networks_agree_with_the_limit": (4, 2.5e-6),
    "test_convergence::test_only_the_right_table_extrapolates_to_the_limit": (1, 2.5e-6),
    "test_convergence::test_spread_falls_as_the_root_of_the_width": (3, 2.5e-6),
    "test_core::test_draws_depend_on_their_key_only": (1, 2 * ALPHA),
    "test_core::test_draws_without_a_name_are_independent": (3, ALPHA),
    "test_core::test_moments_in_width_mode_are_those_of_a_wishart_matrix": (1, 2 * ALPHA),
    "test_core::test_weight_tied_recurrent_network_is_the_gaussian_process_of_its_kernel": (1, ALPHA),
    "test_exact::test_initial_kernels": (7, ALPHA),
    "test_exact::test_one_hidden_layer_against_quadrature": (6, ALPHA),
    "test_exact::test_one_step_of_two_layers_against_quadrature": (8, ALPHA),
    "test_examples::test_other_limits": (1, 1e-6),
    "test_examples::test_recurrent_network": (1, 1e-6),
    "test_finite::test_initial_laws": (2, ALPHA),
    "test_ip::test_the_limit_is_that_of_finite_networks": (3, ALPHA),
    "test_ip_escape::test_the_quick_command": (1, 0.053**5),
    "test_lazy::test_kernels_are_those_of_the_closed_forms": (6, ALPHA),
    "test_lazy::test_logistic_law_against_an_independent_iteration": (1, ALPHA),
    "test_lazy::test_replicas_follow_the_law": (2, ALPHA),
    "test_lazy::test_standard_errors_of_the_draws_are_the_scatter_of_runs": (1, ALPHA),
    "test_lazy::test_standard_errors_of_the_kernel_are_the_scatter_of_runs": (1, ALPHA),
    "test_lazy::test_the_spread_stays_when_particles_are_added": (1, 2 * ALPHA),
    "test_lazy_networks::test_appendix_a_needs_widths_beyond_the_dimension": (1, 2 * ALPHA),
    "test_lazy_networks::test_wide_networks_follow_the_law": (3, ALPHA),
    "test_lazy_networks::test_wider_networks_follow_the_law": (3, ALPHA),
    "test_misprints::test_the_printed_recursions_part_at_the_second_step": (2, ALPHA),
    "test_noise::test_draws_of_neighbouring_keys_and_tiles_are_independent_normals": (1, 4 * ALPHA),
    "test_oracles::test_deep_linear_against_dense_networks": (3, 2 * ALPHA),
    "test_oracles::test_mean_field_against_dense_networks": (2, 2 * ALPHA),
    "test_oracles::test_one_step_against_dense_networks": (4, 2 * ALPHA),
    "test_pathwise::test_score_function_fields_are_pathwise_derivatives": (2, ALPHA),
    "test_reference::test_fast_engine_equals_the_reference": (2, ALPHA),
    "test_run::test_a_zero_output_at_the_start_is_exact_in_the_limit_and_random_at_finite_width": (1, ALPHA),
    "test_stationary::test_the_update_of_the_read_out_is_what_chi_and_the_kernel_say": (4, 1e-6),
    "test_statistics::test_spread_is_far_below_that_of_dense_networks": (1, 2 * ALPHA),
    "test_symmetries::test_permuting_samples_is_equal_in_law_only": (1, ALPHA),
    "test_verify::test_a_failed_hypothesis_is_a_notice": (1, 1e-6),
    "test_verify::test_every_claim_is_reported_and_none_fails": (1, 1e-6),
    "test_width::test_probes_of_the_limit_on_held_out_points": (2, 2 * ALPHA),
    "test_width::test_width_noise_is_a_dense_network_in_law": (2, ALPHA),
    "test_width::test_width_noise_on_held_out_points": (1, ALPHA),
    "test_width_parametrizations::test_held_out_points_of_wider_networks": (2, ALPHA),
    "test_width_parametrizations::test_width_noise_is_a_dense_network_of_that_parametrization": (3, ALPHA),
    "test_wrong_engines::test_only_right_engines_agree_with_finite_networks": (8, ALPHA),
}
