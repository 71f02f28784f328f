"""Which networks that others defined chipfit imports, and whether what comes out is the same network.

    pip install --no-deps pytorchcv
    python benchmarks/third_party.py [FAMILY …] [--skip FAMILY …]

One member of each family (file) of pytorchcv, with random weights and its own input size, goes through `chipfit.load`,
as a user's module does. MACs are compared with those that torch's own FLOP counter finds in the original, outputs with
those of the original on an image that chipfit has not seen. Statistics of normalisations are set to those of a random
image before, so that numbers neither fade nor grow on the way. "depends" is how much outputs differ between two images
by the same measure: far above the difference, else the comparison says nothing.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import chipfit
from chipfit.errors import ChipfitError
from chipfit.graph.ops import Opaque
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network

FAMILIES = {
    "airnet": "airnet50_1x64d_r16", "airnext": "airnext50_32x4d_r2", "alexnet": "alexnet",
    "alphapose_coco": "alphapose_fastseresnet101b_coco", "bagnet": "bagnet9", "bamresnet": "bam_resnet18",
    "bisenet": "bisenet_resnet18_celebamaskhq", "bninception": "bninception", "cbamresnet": "cbam_resnet18",
    "centernet": "centernet_resnet18_voc", "cgnet": "cgnet_cityscapes", "channelnet": "channelnet",
    "condensenet": "condensenet74_c8_g8", "contextnet": "ctxnet_cityscapes", "dabnet": "dabnet_cityscapes",
    "danet": "danet_resnetd50b_cityscapes", "darknet": "darknet_tiny", "darknet53": "darknet53", "darts": "darts",
    "deeplabv3": "deeplabv3_resnetd50b_voc", "densenet": "densenet121",
    "densenet_cifar": "densenet40_k12_bc_cifar10", "diapreresnet": "diapreresnet10",
    "diaresnet": "diaresnet10", "dicenet": "dicenet_wd5", "diracnetv2": "diracnet18v2", "dla": "dla46c",
    "dpn": "dpn68", "drn": "drnd22", "edanet": "edanet_cityscapes", "efficientnet": "efficientnet_b0b",
    "efficientnetedge": "efficientnet_edge_small_b", "enet": "enet_cityscapes", "erfnet": "erfnet_cityscapes",
    "esnet": "esnet_cityscapes", "espcnet": "espcnet_cityscapes", "espnetv2": "espnetv2_wd2",
    "fastscnn": "fastscnn_cityscapes", "fastseresnet": "fastseresnet101b", "fbnet": "fbnet_cb",
    "fcn8sd": "fcn8sd_resnetd50b_voc", "fdmobilenet": "fdmobilenet_wd4", "fishnet": "fishnet99",
    "fpenet": "fpenet_cityscapes", "fractalnet_cifar": "fractalnet_cifar10", "ghostnet": "ghostnet",
    "hardnet": "hardnet39ds", "hrnet": "hrnet_w18_small_v1", "ibnbresnet": "ibnb_resnet50",
    "ibndensenet": "ibn_densenet121", "ibnresnet": "ibn_resnet50", "ibnresnext": "ibn_resnext50_32x4d",
    "ibppose_coco": "ibppose_coco", "icnet": "icnet_resnetd50b_cityscapes", "igcv3": "igcv3_wd4",
    "inceptionresnetv1": "inceptionresnetv1", "inceptionresnetv2": "inceptionresnetv2", "inceptionv3": "inceptionv3",
    "inceptionv4": "inceptionv4", "irevnet": "irevnet301", "isqrtcovresnet": "isqrtcovresnet18",
    "lednet": "lednet_cityscapes", "lffd": "lffd20x5s320v2_widerface", "linknet": "linknet_cityscapes",
    "lwopenpose_cmupan": "lwopenpose2d_mobilenet_cmupan_coco", "menet": "menet108_8x1_g3", "mixnet": "mixnet_s",
    "mnasnet": "mnasnet_small", "mobilenet": "mobilenet_wd4", "mobilenetb": "mobilenetb_wd4",
    "mobilenetv2": "mobilenetv2_wd4", "mobilenetv3": "mobilenetv3_small_w7d20", "msdnet": "msdnet22",
    "msdnet_cifar10": "msdnet22_cifar10", "nasnet": "nasnet_4a1056", "nin_cifar": "nin_cifar10",
    "ntsnet_cub": "ntsnet_cub", "nvpattexp": "nvpattexp116bazel76", "octresnet": "octresnet10_ad2",
    "peleenet": "peleenet", "pfpcnet": "pfpcnet", "pnasnet": "pnasnet5large", "polynet": "polynet",
    "preresnet": "preresnet10", "prnet": "prnet", "proxylessnas": "proxylessnas_mobile",
    "pspnet": "pspnet_resnetd50b_voc", "pyramidnet": "pyramidnet101_a360",
    "pyramidnet_cifar": "pyramidnet110_a48_cifar10", "raft": "raft_small", "regnet": "regnety002",
    "resattnet": "resattnet56", "resnesta": "resnestabc14", "resnet": "resnet10", "resneta": "resneta10",
    "resnetd": "resnetd50b", "resnext": "resnext14_32x2d", "revnet": "revnet38", "rir_cifar": "rir_cifar10",
    "ror_cifar": "ror3_56_cifar10", "scnet": "scnet50", "segnet": "segnet_cityscapes", "selecsls": "selecsls42",
    "senet": "senet16", "sepreresnet": "sepreresnet10", "seresnet": "seresnet10", "seresnext": "seresnext50_32x4d",
    "shakedropresnet_cifar": "shakedropresnet20_cifar10", "shakeshakeresnet_cifar": "shakeshakeresnet20_2x16d_cifar10",
    "sharesnet": "sharesnet18", "shufflenet": "shufflenet_g3_wd4", "shufflenetv2": "shufflenetv2_wd2",
    "shufflenetv2b": "shufflenetv2b_wd2", "simplepose_coco": "simplepose_resnet18_coco",
    "simpleposemobile_coco": "simplepose_mobile_mobilenet_w1_coco", "sinet": "sinet_cityscapes", "sknet": "sknet50",
    "sparsenet": "sparsenet121", "spnasnet": "spnasnet", "sqnet": "sqnet_cityscapes",
    "squeezenet": "squeezenet_v1_1", "squeezenext": "sqnxt23_w1", "superpointnet": "superpointnet",
    "tresnet": "tresnet_m", "unet": "unet_cityscapes", "vgg": "vgg11", "visemenet": "visemenet20",
    "voca": "voca8flame", "vovnet": "vovnet27s", "wrn": "wrn50_2", "wrn1bit_cifar": "wrn20_10_1bit_cifar10",
    "wrn_cifar": "wrn16_10_cifar10", "xception": "xception", "xdensenet": "xdensenet121_2", "zfnet": "zfnet",
}  # fmt: skip
"""A member of each family, a small one where there are several, by the name of the file."""

TOLERANCE = 1e-3
"""Largest difference of outputs, as a share of the largest output."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of one network: `reason` is empty where it is the same network."""

    shape: tuple[int, ...]
    reason: str
    macs: int = 0
    counted: int = 0
    difference: float = 0.0
    depends: float = 0.0
    import_s: float = 0.0


def member(family: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a family in evaluation mode with random weights, and the shape of its input."""
    torch.manual_seed(0)
    module = getattr(importlib.import_module(f"pytorchcv.models.{family}"), FAMILIES[family])()
    size = getattr(module, "in_size", (224, 224))
    return module.eval(), (1, getattr(module, "in_channels", 3), *size)


def calibrate(module: nn.Module, image: Tensor) -> None:
    """Sets statistics of batch normalisations to those of their inputs for an image, scales and shifts at random."""

    def measure(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        channels = inputs[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(channels.mean(1) * 0.5)
        norm.running_var.copy_(channels.square().mean(1) * 0.5 + channels.square().mean() * 0.5)
        if norm.affine:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.3, 0.3)

    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms if norm.track_running_stats]
    with torch.no_grad():
        module(image)
    for hook in hooks:
        hook.remove()


def tensors(results: Any) -> list[Tensor]:
    """The tensors that a module gives, in order."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(results) if isinstance(leaf, Tensor)]


def counted(module: nn.Module, image: Tensor) -> tuple[list[Tensor], int]:
    """Outputs of a module, and its MACs as torch counts them."""
    # Of torch's ways to compute attention, its counter knows this one.
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        results = tensors(module(image))
    return results, counter.get_total_flops() // 2


def unlike(given: list[Tensor], wanted: list[Tensor]) -> float:
    """Largest difference of two lists of outputs, each as a share of the largest value wanted."""
    pairs = zip(given, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in pairs)


def same(network: Network, module: nn.Module, shape: tuple[int, ...]) -> Found:
    """Compares a network with the module that it comes from."""
    unknown = sorted({node.op.operator for node in network.graph.nodes if isinstance(node.op, Opaque)})
    if unknown:
        return Found(shape, f"opaque: {', '.join(unknown)}")
    macs = sum(int(network.graph.macs(node)) for node in network.graph.nodes)  # type: ignore[arg-type]
    image, other = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    wanted, flops = counted(module, image)
    twin = GraphModule(network.graph, network.weights).eval()
    with torch.no_grad():
        given, elsewhere = tensors(twin(image)), tensors(twin(other))
    if len(given) != len(wanted) or any(a.shape != b.shape for a, b in zip(given, wanted, strict=True)):
        return Found(shape, "outputs of other shapes", macs, flops)
    difference, depends = unlike(given, wanted), unlike(elsewhere, given)
    reasons = [
        "MACs differ" if macs != flops else "",
        "" if difference <= TOLERANCE else "outputs differ",
        "" if depends > 10 * TOLERANCE else "outputs do not depend on the image",
    ]
    return Found(shape, ", ".join(reason for reason in reasons if reason), macs, flops, difference, depends)


def examine(family: str) -> Found:
    """Imports the network of a family and compares it."""
    module, shape = member(family)
    calibrate(module, torch.randn(shape, generator=torch.Generator().manual_seed(2)))
    start = time.perf_counter()
    try:
        network = chipfit.load(module, input_shape=shape)
    except ChipfitError as error:
        return Found(shape, str(error), import_s=time.perf_counter() - start)
    import_s = time.perf_counter() - start
    found = same(network, module, shape)
    return Found(shape, found.reason, found.macs, found.counted, found.difference, found.depends, import_s)


def line(family: str, found: Found) -> str:
    """One row of the table."""
    size = "x".join(map(str, found.shape[1:]))
    return (
        f"{family:22s} {FAMILIES[family]:34s} {size:>12s} {found.macs / 1e6:10.2f} {found.counted / 1e6:10.2f} "
        f"{found.difference:8.1e} {found.depends:7.3f} {found.import_s:7.1f}  {found.reason or 'same'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="all without")
    parser.add_argument("--skip", nargs="*", default=[], metavar="FAMILY")
    options = parser.parse_args()
    print(
        f"{'family':22s} {'member':34s} {'input':>12s} {'M MACs':>10s} {'torch':>10s} "
        f"{'outputs':>8s} {'depends':>7s} {'import s':>8s}  what came out"
    )
    chosen = [family for family in options.families or FAMILIES if family not in options.skip]
    alike = 0
    for family in chosen:
        found = examine(family)
        alike += not found.reason
        print(line(family, found), flush=True)
        gc.collect()
    print(f"{alike} of {len(chosen)} families are the same network after import")


if __name__ == "__main__":
    main()
