"""The optimizer of a training, and the file from which a training goes on after a break."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from chipfit.accuracy.recipe import Recipe
from chipfit.errors import InvalidInput
from chipfit.files import write_whole

STATE = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")
"""What optimizers keep of every parameter."""

Tensors = dict[str, torch.Tensor]


def optimizer_of(module: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer that a recipe asks for; vectors (biases, normalisation) do not decay."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999))
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def write_checkpoint(
    path: Path,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, torch.Tensor],
    notes: Mapping[str, str],
) -> None:
    """Writes the weights of a module, the state of its optimizer, other tensors and notes, whole or not at all."""
    tensors = {f"now/{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    tensors |= {f"extra/{name}": tensor.contiguous() for name, tensor in extra.items()}
    for name, parameter in module.named_parameters():
        for key, value in optimizer.state[parameter].items():
            if value is not None:
                tensors[f"optimizer.{key}/{name}"] = value.contiguous()
    write_whole(path, safetensors.torch.save(tensors, metadata=dict(notes)))


def read_checkpoint(
    path: Path, training: str, module: torch.nn.Module, optimizer: torch.optim.Optimizer, where: torch.device
) -> tuple[Tensors, dict[str, str]]:
    """Takes up what `write_checkpoint` wrote; the other tensors and the notes.

    Raises `InvalidInput` for a damaged file and one whose note "training" is another.
    """
    try:
        with safetensors.safe_open(path, framework="pt", device=str(where)) as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
    except (OSError, safetensors.SafetensorError) as error:
        raise InvalidInput(f"checkpoint {path}: {error}; remove it, the training then begins anew") from None
    if notes.get("training") != training:
        raise InvalidInput(f"checkpoint {path} is of another training; remove it or give another path")
    module.load_state_dict({name[4:]: tensor for name, tensor in tensors.items() if name.startswith("now/")})
    for name, parameter in module.named_parameters():
        for key in STATE:
            if (value := tensors.get(f"optimizer.{key}/{name}")) is not None:
                # PyTorch counts steps on the CPU whatever the device.
                optimizer.state[parameter][key] = value.cpu() if key == "step" else value.clone()
    return {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("extra/")}, notes
