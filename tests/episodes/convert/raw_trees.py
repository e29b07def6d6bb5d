"""Small raw data of every source, in the true layout."""

from tests.episodes.convert.raw_folders import (
    make_aircraft,
    make_cu_birds,
    make_dtd,
    make_omniglot,
    make_traffic_sign,
    make_vgg_flower,
)
from tests.episodes.convert.raw_lists import (
    make_cifar10,
    make_cifar100,
    make_fungi,
    make_ilsvrc_2012,
    make_mnist,
    make_mscoco,
    make_quickdraw,
)

MAKERS = {
    "dtd": make_dtd,
    "cu_birds": make_cu_birds,
    "omniglot": make_omniglot,
    "aircraft": make_aircraft,
    "traffic_sign": make_traffic_sign,
    "vgg_flower": make_vgg_flower,
    "fungi": make_fungi,
    "quickdraw": make_quickdraw,
    "mscoco": make_mscoco,
    "ilsvrc_2012": make_ilsvrc_2012,
    "mnist": make_mnist,
    "cifar10": make_cifar10,
    "cifar100": make_cifar100,
}
