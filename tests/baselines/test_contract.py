"""Every method of the table under one suite."""

import pytest

from baselines.table import METHODS, build_method
from episodes.faults import InputError
from tests.baselines import contract

CASES = [
    *METHODS,
    "maml:library=torch_func",
    "maml:first_order=false,steps=2",
    "proto_maml:first_order=false,steps=2",
    "protonet:batch_norm=transductive",
    "protonet:batch_norm=running",
    "baseline:distance=euclidean",
    "finetune:batch_norm=support,layers=head,loss=mean",
    "finetune:classifier=cosine,weight_norm=false",
]
QUICK = {"finetune": ("steps=3", "rate=0.001")}


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("text", CASES)
def test_method_keeps_the_contract(text, check, tmp_path):
    name, _, settings = text.partition(":")
    written = ",".join([*filter(None, [settings]), *QUICK.get(name, ())])
    method = build_method(f"{name}:{written}" if written else name)
    if method.learns_from == "images" and check in contract.LEARNING:
        return
    if name == "finetune" and check is contract.check_numbering:
        return  # the layer of each class is drawn, so classes cannot be exchanged
    check(method, tmp_path)


def test_unknown_names():
    with pytest.raises(InputError, match="Did you mean 'protonet'"):
        build_method("protonets")
    with pytest.raises(InputError, match="unknown setting"):
        build_method("protonet:temperature=2")
    with pytest.raises(InputError, match="Did you mean 'support'"):
        build_method("protonet:batch_norm=suport")
