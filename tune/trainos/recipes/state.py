"""The state of a training by gradient steps as files: safetensors for tensors, JSON for the rest. Alike for any number of workers.

Parameters and AdamW's moments by their full names, as ``torch.distributed.checkpoint`` gathers them from DDP and from FSDP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
_MODULE, _MOMENTS, _GROUPS = "module.safetensors", "optimizer.safetensors", "optimizer.json"
_BETWEEN = "|"
"""Stands between a parameter's name and the moment's, and in no name."""

Gathered = tuple[dict[str, Any], dict[str, Any]]
"""Trained parameters, and the optimizer's state."""


def gather(module: nn.Module, optimizer: torch.optim.Optimizer) -> Gathered:
    """The state, whole in the first worker. All workers call it together."""
    return get_state_dict(module, optimizer, options=_WHOLE)


def write(folder: Path, gathered: Gathered) -> None:
    """Put what was gathered into files."""
    trained, optimizer = gathered
    moments = {f"{name}{_BETWEEN}{kind}": value for name, kinds in optimizer["state"].items() for kind, value in kinds.items()}
    _save(trained, folder / _MODULE)
    _save(moments, folder / _MOMENTS)
    (folder / _GROUPS).write_text(json.dumps(optimizer["param_groups"]))


def _save(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copies, since two names may share a tensor and a file may not."""
    save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, path)


def restore(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take up what ``write`` left. All workers call it together, each with the files."""
    moments: dict[str, dict[str, torch.Tensor]] = {}
    for both, value in load_file(folder / _MOMENTS).items():
        name, _, kind = both.rpartition(_BETWEEN)
        moments.setdefault(name, {})[kind] = value
    state = {"state": moments, "param_groups": json.loads((folder / _GROUPS).read_text())}
    set_state_dict(module, optimizer, model_state_dict=load_file(folder / _MODULE), optim_state_dict=state, options=_WHOLE)
