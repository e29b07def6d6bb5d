"""`compare-sampler` with stand-ins for the archived package, which is installed nowhere here.

The stand-ins have the names of the archived package that are used, read dataset_spec.json by
themselves and draw with numpy's own `choice`; they share no code with the project.
"""

import io
import sys
import textwrap

import numpy as np
import pytest
import tyro
from rich.console import Console

from commands.compare_sampler import Command, run
from episodes import InputError
from run_meta_dataset import main

SPEC = """
    import json, os
    from meta_dataset.data.learning_spec import Split

    class Spec:
        def __init__(self, raw):
            self.raw, self.name = raw, raw["name"]

        def sizes(self, split):
            order = list(Split)
            if self.raw["__class__"] == "HierarchicalDatasetSpecification":
                graph = self.raw["split_subgraphs"][split.name]
                leaves = sorted(n["wn_id"] for n in graph if not n["children_ids"])
                return [self.raw["images_per_class"][split.name][leaf] for leaf in leaves]
            key = "classes_per_split"
            counts = [self.raw[key][s.name] for s in order]
            first = sum(counts[: order.index(split)])
            wanted = range(first, first + self.raw[key][split.name])
            return [self.raw["images_per_class"][str(i)] for i in wanted]

        def spans(self, split):
            nodes = {n["wn_id"]: n["children_ids"] for n in self.raw["split_subgraphs"][split.name]}
            leaves = sorted(n for n, below in nodes.items() if not below)
            def under(n):
                return {n} if not nodes[n] else set().union(*map(under, nodes[n]))
            return [
                [leaves.index(leaf) for leaf in sorted(under(n))]
                for n in sorted(nodes) if nodes[n]
            ]

    def load_dataset_spec(folder, convert_from_pkl=False):
        with open(os.path.join(folder, "dataset_spec.json")) as file:
            return Spec(json.load(file))
"""
SAMPLING = """
    import numpy as np

    RNG = np.random.RandomState(seed=None)
    MAX_SPANNING_LEAVES_ELIGIBLE = 392

    class EpisodeDescriptionSampler:
        def __init__(self, dataset_spec, split, episode_descr_config, pool=None,
                     use_dag_hierarchy=False, use_bilevel_hierarchy=False):
            assert not use_bilevel_hierarchy and pool is None
            self._rng = np.random.RandomState(RNG.randint(0, 2**32, dtype="uint32"))
            self.rules = episode_descr_config
            self.sizes = dataset_spec.sizes(split)
            self.dag = use_dag_hierarchy and not self.rules.ignore_dag_ontology
            if self.dag:
                self.span_leaves_rel = [
                    span for span in dataset_spec.spans(split)
                    if self.rules.min_ways <= len(span) <= MAX_SPANNING_LEAVES_ELIGIBLE
                ]

        def classes(self):
            rules, rng = self.rules, self._rng
            if self.dag and rng.choice([True, False], p=[1.0, 0.0]):
                chosen = rng.choice(self.span_leaves_rel)
                if len(chosen) > rules.max_ways_upper_bound:
                    chosen = rng.choice(chosen, rules.max_ways_upper_bound, replace=False)
                return chosen
            kept = [i for i, n in enumerate(self.sizes) if n >= rules.min_examples_in_class]
            if len(kept) < rules.min_ways:
                raise ValueError("too few classes")
            most = min(rules.max_ways_upper_bound, len(kept))
            ways = rules.num_ways or rng.randint(low=rules.min_ways, high=most + 1)
            return rng.choice(kept, ways, replace=False)

        def sample_episode_description(self):
            rules, rng = self.rules, self._rng
            chosen = self.classes()
            n = np.array([self.sizes[i] for i in chosen])
            q = rules.num_query or min(rules.max_num_query, (n // 2).min())
            if rules.num_support is not None:
                return tuple((i, rules.num_support, q) for i in chosen)
            left = n - q
            beta = rng.uniform()
            part = np.minimum(rules.max_support_size_contrib_per_class, left)
            total = min(np.floor(beta * part + 1).sum(), rules.max_support_set_size)
            w = n * np.exp(rng.uniform(rules.min_log_weight, rules.max_log_weight, size=n.shape))
            k = np.floor(w / w.sum() * (total - len(n))).astype("int32") + 1
            return tuple(zip(chosen, np.minimum(k, left), [q] * len(n)))
"""
SPLITS = """
    import enum
    Split = enum.Enum("Split", "TRAIN VALID TEST")
"""


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """A function that makes a `meta_dataset` importable, with changes to its sampler."""

    def forget():
        for name in [name for name in sys.modules if name.split(".")[0] == "meta_dataset"]:
            del sys.modules[name]

    def plant(sampling=SAMPLING, spec=SPEC):
        folder = tmp_path / "clone" / "meta_dataset" / "data"
        folder.mkdir(parents=True)
        for package in (folder, folder.parent):
            (package / "__init__.py").write_text("")
        for name, text in (
            ("sampling", sampling),
            ("dataset_spec", spec),
            ("learning_spec", SPLITS),
        ):
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.syspath_prepend(str(tmp_path / "clone"))
        forget()
        return folder.parent

    yield plant
    forget()


def compare(*arguments):
    console = Console(file=io.StringIO(), width=300, force_terminal=False)
    status = run(tyro.cli(Command, args=[str(one) for one in arguments]), console)
    return status, console.file.getvalue()


def test_samplers_that_agree(plant, miniature):
    place = plant()
    flat = ("--records", miniature, "--sources", "fungi", "aircraft", "ilsvrc_2012")
    status, text = compare(*flat, "--episodes", 200)
    assert status == 0, text
    assert f"archived package: {place}" in text
    assert "fungi test: 200 episodes equal\n" in text
    assert "ilsvrc_2012 train: 200 episodes equal\n" in text
    assert text.endswith("The samplers agree on all 1800 episodes (protocol md-v1, seed 1234).\n")


def test_the_generator_of_the_package_is_left_as_it_was(plant, miniature):
    plant()
    import meta_dataset.data.sampling as archived

    before = archived.RNG
    state = before.get_state()[1].copy()
    compare("--records", miniature, "--sources", "fungi", "--episodes", 5)
    assert archived.RNG is before and np.array_equal(before.get_state()[1], state)
    assert archived.MAX_SPANNING_LEAVES_ELIGIBLE == 392


def test_other_protocols_and_seeds(plant, miniature):
    plant()
    flags = ("--records", miniature, "--sources", "cu_birds", "--episodes", 50)
    status, text = compare(*flags, "--protocol", "5w5s", "--seed", 3, "--splits", "train")
    assert status == 0 and "agree on all 50 episodes (protocol 5w5s, seed 3)" in text


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("rng.uniform()", "rng.random_sample() ** 2"),  # shots
        ("(n // 2).min()", "(n // 3).min()"),  # queries
        ("kept, ways, replace", "kept[::-1], ways, replace"),  # classes
        ("self.rules.min_ways <= len", "7 <= len"),  # nodes of the graph
    ],
)
def test_a_sampler_that_differs_is_found(plant, miniature, right, wrong):
    assert right in SAMPLING
    plant(SAMPLING.replace(right, wrong))
    sources = ("--sources", "vgg_flower", "ilsvrc_2012")
    status, text = compare("--records", miniature, *sources, "--episodes", 100)
    assert status == 1 and "DIFFERENT" in text
    ours = next(line for line in text.splitlines() if line.startswith("  ours "))
    theirs = next(line for line in text.splitlines() if line.startswith("  archived "))
    assert ours.split("[")[1] != theirs.split("[")[1]
    assert "The samplers DIFFER on " in text.splitlines()[-1]


def test_a_package_that_fails_while_it_samples_is_a_difference(plant, miniature):
    plant(SAMPLING.replace("beta = rng.uniform()", "raise RuntimeError('no beta')"))
    status, text = compare("--records", miniature, "--sources", "dtd", "--splits", "test")
    assert status == 1
    assert "dtd test: 0 episodes equal, number 0 DIFFERENT" in text
    assert "  archived  refused: no beta" in text


def test_a_split_that_both_refuse_is_no_agreement(plant, make_records):
    plant()
    flags = ("--records", make_records, "--sources", "small")
    status, text = compare(*flags)
    assert status == 1
    assert "small train: 0 episodes equal, number 0 refused by both" in text
    assert "Nothing was compared" in text


@pytest.fixture
def make_records(tmp_path):
    folder = tmp_path / "records" / "small"
    folder.mkdir(parents=True)
    (folder / "dataset_spec.json").write_text(
        '{"__class__": "DatasetSpecification", "name": "small",'
        '"classes_per_split": {"TRAIN": 2, "VALID": 0, "TEST": 0},'
        '"images_per_class": {"0": 9, "1": 9}, "class_names": {"0": "a", "1": "b"},'
        '"file_pattern": "{}.tfrecords"}'
    )
    return folder.parent


def test_without_the_package_it_says_what_to_do(miniature, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "meta_dataset", None)
    assert main(["compare-sampler", "--records", str(miniature)]) == 2
    said = capsys.readouterr().err
    assert "meta_dataset: the package meta_dataset" in said and "is not here" in said
    assert "Clone https://github.com/google-research/meta-dataset and run again with" in said


@pytest.mark.parametrize(
    "line, said",
    [
        ("import gin_that_is_not_here", "it needs the package gin_that_is_not_here"),
        ("raise AttributeError('tf.contrib')", "cannot be imported: AttributeError: tf.contrib"),
    ],
)
def test_a_package_that_cannot_be_imported(plant, miniature, line, said):
    plant(textwrap.dedent(SAMPLING) + line)
    with pytest.raises(InputError, match=said):
        compare("--records", miniature)


def test_nothing_to_compare_on(plant, tmp_path, miniature):
    plant()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no source"):
        compare("--records", tmp_path / "empty")
    flags = ("--records", miniature, "--sources", "traffic_sign", "--splits", "train")
    with pytest.raises(InputError, match="has no classes in train"):
        compare(*flags)
    protocol = tmp_path / "few.yaml"
    protocol.write_text("name: few\nmax_classes: 8\nignore_dag: true\n")
    with pytest.raises(InputError, match="max_classes is not compared"):
        compare("--records", miniature, "--sources", "fungi", "--protocol", protocol)
