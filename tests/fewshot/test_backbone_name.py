"""Names of backbones: what they spell, and that they are spelt one way."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from episodes.faults import InputError
from fewshot.backbone_name import ACTIVATIONS, PLACEMENTS, PLAIN, BackboneName


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("resnet18", "resnet18"),
        ("aa_resnet18", "aa_resnet18"),
        ("aa[critical;binomial3]_resnet18", "aa_resnet18"),
        ("aa[binomial3]_resnet18", "aa_resnet18"),
        ("aa[skip,conv;binomial5]_resnet50", "aa[conv,skip;binomial5]_resnet50"),
        ("aa[silu;skip]_resnet50", "aa[skip;binomial3;silu]_resnet50"),
        ("aa[gaussian0.8x5]_timm/resnet18d", "aa[critical;gaussian0.8x5]_timm/resnet18d"),
        ("aa[taps1:2.5:1]_resnet34", "aa[critical;taps1:2.5:1]_resnet34"),
    ],
)
def test_spellings_of_one_network_are_one_name(text, canonical):
    name = BackboneName.parse(text)
    assert str(name) == canonical and BackboneName.parse(canonical) == name
    assert "/" not in name.file


@given(
    st.sampled_from([*PLAIN, "timm/resnet50d", "torchvision/densenet121"]),
    st.sets(st.sampled_from(PLACEMENTS), min_size=1),
    st.sampled_from(["binomial3", "binomial7", "gaussian", "sinc13"]),
    st.sampled_from([None, *ACTIVATIONS]),
)
def test_a_name_is_read_back(plain, placement, filter, activation):
    names = tuple(name for name in PLACEMENTS if name in placement)
    name = BackboneName(plain, names, filter, activation)
    assert BackboneName.parse(str(name)) == name and name.antialiased


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aa_resnet19", "unknown backbone 'aa_resnet19'. Did you mean 'aa_resnet18'"),
        ("timm/", "unknown backbone"),
        ("aa[]_resnet18", "unknown setting ''"),
        ("aa[stems]_resnet18", "unknown setting 'stems'. Did you mean 'stem'"),
        ("aa[skip;conv]_resnet18", "names two of 'conv' and 'skip'"),
        ("aa[binomial9]_resnet18", "unknown setting 'binomial9'. Did you mean 'binomial3'"),
    ],
)
def test_what_spells_nothing_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        BackboneName.parse(text)


def test_neither_names_nor_the_package_import_torch():
    code = "import fewshot, fewshot.experiment, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
