"""Sources that are tables, the shared options, and the registry. Oracle: the arrays that the test itself wrote."""

import hashlib
import zipfile

import numpy as np
import pytest

import tpsim.data
from tpsim.data import csv, describe, digits, explain, gaussian_mixture, load, npz, resolve_options
from tpsim.errors import FileError, InputError

INPUTS = np.array([[1.0, 5.0, 2.0], [3.0, 5.0, -2.0], [8.0, 5.0, 0.5]])
TARGETS = np.array([1.0, -1.0, 1.0])
PROBES = np.array([[2.0, 7.0, 1.0], [0.0, 5.0, 0.0]])
PROBE_TARGETS = np.array([-1.0, 1.0])


def write_npz(path, **changes):
    arrays = {"inputs": INPUTS, "targets": TARGETS, "probes": PROBES, "probe_targets": PROBE_TARGETS, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_npz_is_used_as_given(tmp_path):
    problem = npz(write_npz(tmp_path / "a.npz"))
    for name, array in (("inputs", INPUTS), ("targets", TARGETS), ("probes", PROBES), ("probe_targets", PROBE_TARGETS)):
        assert np.array_equal(getattr(problem, name), array)
    assert npz(write_npz(tmp_path / "b.npz", probes=None, probe_targets=None)).probes is None
    assert npz(write_npz(tmp_path / "c.npz", probe_targets=None)).probe_targets is None


def test_npz_object_array_is_refused_without_unpickling(tmp_path):
    executed = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return executed.touch, ()

    path = write_npz(tmp_path / "a.npz", inputs=np.array([[Hostile()]], dtype=object))
    with pytest.raises(FileError, match=r"a\.npz.*Object arrays cannot be loaded"):
        npz(path)
    assert not executed.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": None}, "holds inputs, probe_targets, probes; allowed: inputs, targets"),
        ({"extra": TARGETS}, "holds extra"),
        ({"inputs": INPUTS + 1j}, "inputs is complex128"),
        ({"inputs": INPUTS.astype(str)}, "inputs is <U"),
    ],
)
def test_npz_with_other_arrays(tmp_path, changes, message):
    with pytest.raises(FileError, match=message):
        npz(write_npz(tmp_path / "a.npz", **changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"inputs": INPUTS[0]}, "inputs"),
        ({"targets": TARGETS[:2]}, "targets"),
        ({"inputs": INPUTS * np.nan}, "inputs"),
        ({"inputs": INPUTS[:0], "targets": TARGETS[:0]}, "inputs"),
        ({"probes": PROBES[:, :2]}, "probes"),
        ({"probes": None}, "probe_targets"),
    ],
)
def test_npz_with_wrong_shapes_or_values(tmp_path, changes, field):
    with pytest.raises(InputError) as caught:
        npz(write_npz(tmp_path / "a.npz", **changes))
    assert caught.value.field == field


def test_damaged_npz_is_one_clear_error(tmp_path):
    """Truncated anywhere, or with one bit flipped: never a wrong array, never another exception."""
    raw = write_npz(tmp_path / "whole.npz").read_bytes()
    whole, path = npz(tmp_path / "whole.npz"), tmp_path / "damaged.npz"
    for size in range(0, len(raw), 17):
        path.write_bytes(raw[:size])
        with pytest.raises(FileError, match=r"damaged\.npz"):
            npz(path)
    for position in range(0, len(raw), 7):
        flipped = bytearray(raw)
        flipped[position] ^= 0x10
        path.write_bytes(flipped)
        try:
            assert describe(npz(path)) == describe(whole)  # a flipped time stamp, for one, changes nothing
        except FileError as error:
            assert "damaged.npz" in str(error)


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(FileError, match=r"a\.npz: cannot be read"):
        npz(path)
    np.save(tmp_path / "a.npy", INPUTS)
    with pytest.raises(FileError, match="not an npz file"):
        npz(tmp_path / "a.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inputs", "text")
        archive.writestr("targets", "text")
    with pytest.raises(FileError, match="inputs is no array"):
        npz(path)
    with pytest.raises(FileError, match="cannot be read"):
        npz(tmp_path)


CSV = "a, y,b,c\n1,1,5,2\n\n3,-1,5,-2\n8,1,5,.5\n"


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("target", ["y", 1, -3])
def test_csv_with_header(tmp_path, target):
    problem = csv(write(tmp_path / "a.csv", CSV), target=target)
    assert np.array_equal(problem.inputs, INPUTS) and np.array_equal(problem.targets, TARGETS)
    assert problem.probes is None


def test_csv_probes_with_and_without_target(tmp_path):
    path = write(tmp_path / "a.csv", CSV)
    labelled = write(tmp_path / "p.csv", "a,y,b,c\n2,-1,7,1\n0,1,5,0\n")
    bare = write(tmp_path / "q.csv", "a,b,c\n2,7,1\n0,5,0\n")
    problem = csv(path, "y", probes=labelled)
    assert np.array_equal(problem.probes, PROBES) and np.array_equal(problem.probe_targets, PROBE_TARGETS)
    problem = csv(path, "y", probes=bare)
    assert np.array_equal(problem.probes, PROBES) and problem.probe_targets is None
    with pytest.raises(FileError, match=r"r\.csv: 3 columns \(a, c, b\); allowed: the columns of"):
        csv(path, "y", probes=write(tmp_path / "r.csv", "a,c,b\n1,2,3\n"))


def test_csv_without_header_and_with_another_delimiter(tmp_path):
    path = write(tmp_path / "a.txt", "1;5;2;1\n3;5;-2;-1\n8;5;.5;1\n")
    bare = write(tmp_path / "p.txt", "2;7;1\n0;5;0\n")
    problem = csv(path, header=False, delimiter=";", probes=bare)
    assert np.array_equal(problem.inputs, INPUTS) and np.array_equal(problem.targets, TARGETS)
    assert np.array_equal(problem.probes, PROBES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,y\n1,2\n3\n", r"line 3: 1 fields, expected 2"),
        ("a,y\n1,2\n3,x\n", r"line 3, column y: 'x' is not a finite number"),
        ("a,y\n1,nan\n", r"line 2, column y: 'nan'"),
        ("a,y\n1,\n", r"line 2, column y: ''"),
        ("a,y\n", "no line of numbers"),
        ("", "no line of numbers"),
        ('a,y\n"1,2\n', "not a UTF-8 csv file"),
        ("a,y\n1,\0\n", "column y|not a UTF-8 csv file"),
    ],
)
def test_csv_damage(tmp_path, text, message):
    with pytest.raises(FileError, match=message) as caught:
        csv(write(tmp_path / "a.csv", text))
    assert "a.csv" in str(caught.value)


def test_csv_missing_binary_and_unusable_options(tmp_path):
    with pytest.raises(FileError, match="no.csv: cannot be read"):
        csv(tmp_path / "no.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FileError, match="not a UTF-8 csv file"):
        csv(tmp_path / "b.csv")
    path = write(tmp_path / "a.csv", CSV)
    for options in ({"target": "z"}, {"target": 4}, {"target": True}, {"delimiter": ",,"}, {"header": "yes"}):
        with pytest.raises(InputError) as caught:
            csv(path, **options)
        assert caught.value.field == next(iter(options))
    with pytest.raises(InputError, match="besides the target"):
        csv(write(tmp_path / "c.csv", "y\n1\n"))


def test_gaussian_mixture_law():
    """Means +-separation/2 along e_1 and unit variance. Oracle: the law; 2000 samples, |z| < 5 over 2d statistics."""
    problem = gaussian_mixture(count=2001, dimension=5, separation=3.0, seed=4, probes=7, scale="none")
    assert describe(problem)["classes"] == {-1.0: 1001, 1.0: 1000} and problem.probes.shape == (7, 5)
    noise = problem.inputs - 1.5 * problem.targets[:, None] * np.eye(5)[0]
    assert np.abs(noise.mean(axis=0)).max() * np.sqrt(2001) < 5
    assert np.abs(noise.var(axis=0) - 1).max() * np.sqrt(2001 / 2) < 5
    print(f"minimum detectable effect: {5 / np.sqrt(2001):.2f} in a mean, {5 * np.sqrt(2 / 2001):.2f} in a variance")


@pytest.mark.parametrize("source", [gaussian_mixture, digits])
def test_training_samples_do_not_depend_on_probes(source):
    few, many = source(seed=3, probes=0), source(seed=3, probes=20)
    assert few.probes is None and len(many.probes) == 20
    assert np.array_equal(few.inputs, many.inputs) and np.array_equal(few.targets, many.targets)
    assert not np.array_equal(few.inputs, source(seed=5, probes=0).inputs)
    assert not (many.probes[:, None] == many.inputs).all(axis=2).any()


@pytest.mark.parametrize(
    ("scale", "factor"), [("none", 1.0), ("sqrt_d", 1 / np.sqrt(3)), (2, 2.0), (0.25, 0.25), (np.float64(3), 3.0)]
)
def test_scale(tmp_path, scale, factor):
    problem = npz(write_npz(tmp_path / "a.npz"), scale=scale)
    assert np.array_equal(problem.inputs, INPUTS * factor) and np.array_equal(problem.probes, PROBES * factor)
    assert np.array_equal(problem.targets, TARGETS) and np.array_equal(problem.probe_targets, PROBE_TARGETS)


def test_standardise_by_feature_uses_training_statistics(tmp_path):
    """Oracle: the definition, column by column; a constant column is centred only."""
    problem = npz(write_npz(tmp_path / "a.npz"), standardise="feature", scale=10.0)
    for k in (0, 2):
        mean, deviation = INPUTS[:, k].mean(), np.sqrt(((INPUTS[:, k] - INPUTS[:, k].mean()) ** 2).mean())
        assert np.allclose(problem.inputs[:, k], 10 * (INPUTS[:, k] - mean) / deviation, rtol=1e-14)
        assert np.allclose(problem.probes[:, k], 10 * (PROBES[:, k] - mean) / deviation, rtol=1e-14)
    assert np.array_equal(problem.inputs[:, 1], np.zeros(3)) and np.array_equal(problem.probes[:, 1], [20.0, 0.0])


def test_standardise_by_sample(tmp_path):
    """Mean 0 and variance 1 of every input and probe by itself; a constant one (its mean rounds) becomes exactly 0."""
    constant = np.full((1, 10), 0.1)
    inputs = np.concatenate([np.random.default_rng(0).standard_normal((3, 10)), constant])
    path = write_npz(tmp_path / "a.npz", inputs=inputs, targets=np.ones(4), probes=2 * inputs, probe_targets=np.ones(4))
    problem = npz(path, standardise="sample")
    for x in (problem.inputs, problem.probes):
        assert np.abs(x.mean(axis=1)).max() < 1e-15 and np.allclose(x[:3].var(axis=1), 1, rtol=1e-14)
        assert np.array_equal(x[3], np.zeros(10))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "sqrt"}, {"scale": 0}, {"scale": -1.0}, {"scale": np.inf}, {"scale": True}, {"scale": [1]},
        {"standardise": "all"}, {"standardise": True}, {"standardise": ["feature"]},
        {"count": 0}, {"count": 2.5}, {"count": True}, {"count": 10**6}, {"probes": -1}, {"probes": 10**6},
        {"seed": -1}, {"seed": 0.5}, {"classes": 3}, {"classes": [1]}, {"classes": [1, 1]}, {"classes": [0, 10]},
        {"classes": "01"}, {"classes": [0.0, 1.0]}, {"classes": [0, "cat"]}, {"classes": [True, False]},
    ],
)  # fmt: skip
def test_unusable_options_name_the_field(options):
    with pytest.raises(InputError) as caught:
        digits(**options)
    assert caught.value.field == next(iter(options))


def test_overflow_in_scaling_is_an_input_error(tmp_path):
    path = write_npz(tmp_path / "a.npz", inputs=INPUTS * 1e307)
    with pytest.raises(InputError, match="inputs"):
        npz(path, scale=100.0)
    for size in (1e307, 1e-200):
        path = write_npz(tmp_path / "a.npz", inputs=INPUTS * size)
        for standardise in ("feature", "sample"):
            with pytest.raises(InputError, match="neither overflow nor vanish"):
                npz(path, standardise=standardise)


def test_load_is_the_source_and_names_what_is_allowed(tmp_path):
    path = write_npz(tmp_path / "a.npz")
    assert describe(load("npz", path=str(path), scale="sqrt_d")) == describe(npz(path, scale="sqrt_d"))
    with pytest.raises(InputError, match="data.source: got 'mnits'; allowed: one of digits, cifar10, cifar100, mnist,"):
        load("mnits")
    with pytest.raises(InputError, match=r"data\.cuont: got 3; allowed: source digits takes classes, count, probes"):
        load("digits", cuont=3)
    with pytest.raises(InputError, match="data.path"):
        load("npz")
    for bad in (5, "", "a\0b", ["a"], "~no-such-user-here/a.npz"):
        with pytest.raises(InputError, match="path: got"):
            load("npz", path=bad)


def test_resolved_options_and_explanation():
    """All that was done to the data is in the resolved options and in one printed line."""
    resolved = resolve_options("digits", count=4)
    assert resolved == {"classes": (0, 1), "count": 4, "probes": 50, "seed": tpsim.data.images.DEMO_SEED,
                        "scale": "sqrt_d", "standardise": "none"}  # fmt: skip
    assert explain("digits") == "digits: pixels / 16, in [0, 1]; not standardised; divided by sqrt(d)"
    assert explain("npz", path="a", scale=2, standardise="feature").endswith("by the training inputs; times 2")
    with pytest.raises(InputError, match="scale"):
        explain("digits", scale={})
    for source in tpsim.data.SOURCES.values():
        assert {"scale", "standardise"} <= set(source.options)


def test_describe(tmp_path):
    problem = npz(write_npz(tmp_path / "a.npz"))
    report = describe(problem)
    assert (report["m"], report["d"], report["p"]) == (3, 3, 2) and report["classes"] == {-1.0: 1, 1.0: 2}
    assert report["sha256_inputs"] == hashlib.sha256(INPUTS.astype("<f8").tobytes()).hexdigest()
    assert report["sha256_targets"] == hashlib.sha256(TARGETS.astype("<f8").tobytes()).hexdigest()
    assert describe(tpsim.Problem(np.eye(30), np.arange(30)))["classes"] is None
