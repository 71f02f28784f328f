"""Networks that others defined: after import they compute the same, with the MACs that PyTorch counts.

The comparison is that of `benchmarks/third_party.py`, which prints it for all families.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from chipfit.errors import InvalidInput

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "third_party.py"

QUICK = ("cbamresnet", "channelnet", "shakedropresnet_cifar", "zfnet")
"""With repetition, a maximum over channels, volumes and local responses."""

SLOW = (
    "alexnet", "bagnet", "bamresnet", "bninception", "darknet", "darts", "densenet_cifar", "diapreresnet",
    "diaresnet", "dicenet", "dla", "dpn", "efficientnet", "fbnet", "fdmobilenet", "fractalnet_cifar",
    "ghostnet", "hardnet", "ibnresnet", "igcv3", "inceptionv3", "lffd", "lwopenpose_cmupan", "menet", "mixnet",
    "mnasnet", "mobilenet", "mobilenetv2", "mobilenetv3", "msdnet_cifar10", "nasnet", "octresnet", "peleenet",
    "pfpcnet", "preresnet", "prnet", "proxylessnas", "pyramidnet_cifar", "regnet", "resnesta", "resnet",
    "selecsls", "senet", "seresnet", "shufflenet", "shufflenetv2", "simplepose_coco", "sknet", "squeezenet",
    "squeezenext", "tresnet", "vovnet", "wrn1bit_cifar", "xception",
)  # fmt: skip

REFUSED = {
    "ntsnet_cub": "NTSNet runs, but torch.export cannot trace it: .*numpy",
    "revnet": "RevNet runs, but torch.export cannot trace it: ",
    "superpointnet": r"depends on the value of a tensor \(superpointnet.py, line \d+: for ind_j in src_inds:\)",
}
"""What is said of networks that choose by the values of tensors, or change what they have saved."""


@pytest.fixture(scope="module")
def third_party() -> ModuleType:
    """The benchmark as a module."""
    pytest.importorskip("pytorchcv", reason="pytorchcv is not installed: pip install --no-deps pytorchcv")
    if not SCRIPT.is_file():
        pytest.skip("benchmarks/third_party.py is only in a checkout")
    spec = importlib.util.spec_from_file_location("third_party_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look up the module that they are in.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("family", [*QUICK, *(pytest.param(family, marks=pytest.mark.slow) for family in SLOW)])
def test_families_are_the_same_after_import(third_party: ModuleType, family: str) -> None:
    found = third_party.examine(family)
    assert found.reason == ""
    assert found.macs == found.counted > 0
    assert found.difference <= third_party.TOLERANCE < found.depends


@pytest.mark.slow
@pytest.mark.parametrize("family", REFUSED)
def test_families_that_cannot_be_traced_are_refused(third_party: ModuleType, family: str) -> None:
    module, shape = third_party.member(family)
    with pytest.raises(InvalidInput, match=REFUSED[family]) as caught:
        third_party.chipfit.load(module, input_shape=shape)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_what_is_not_known_is_named_beside_the_macs_of_the_rest(third_party: ModuleType) -> None:
    found = third_party.examine("condensenet")
    assert found.reason == "unknown and named: aten.index_select"
    assert found.macs == found.counted > 0


def test_a_difference_would_be_found(third_party: ModuleType) -> None:
    module, shape = third_party.member("shakedropresnet_cifar")
    network = third_party.chipfit.load(module, input_shape=shape)
    name = next(name for name, array in network.weights.items() if name.endswith("conv.weight") and array.ndim == 4)
    network.weights[name][0] *= 1.05
    assert third_party.same(network, module, shape).reason == "outputs differ"
