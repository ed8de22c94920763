"""AdamW whose moments are kept, and whose step is made, on another device than that of the weights."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import AdamW, adamw

from stairstream.train.config import TrainConfig


def say_offload(config: TrainConfig, device: torch.device) -> str | None:
    """A line for a run on a device beside which there is no other, where `offload` was asked for."""
    if config.offload is None or device.type != "cpu":
        return None
    kept = "the moments" if config.offload == "optimizer" else "weights and moments"
    return f"offload: {config.offload} has no effect on a CPU, where {kept} are in any case"


class OffloadedAdamW(AdamW):  # type: ignore[misc, unused-ignore]
    """Moments live on `home`; weights and gradients are copied there one weight at a time, and the weight back.

    So the device of the weights has 8 bytes of a weight that learns in place of 16, and nothing is there twice. The
    step is that of PyTorch's fused AdamW on `home`, to the bit.
    """

    def __init__(self, groups: Any, *, home: torch.device, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=lr, betas=betas, foreach=False)
        self._home = home

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def step(self, closure: Any = None) -> None:  # type: ignore[override, unused-ignore]
        """Move each weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As PyTorch does, which would copy all moments to the device of the weights; here none comes there."""
        super().load_state_dict({**state_dict, "state": {}})
        names = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        weights = chain.from_iterable(group["params"] for group in self.param_groups)
        for name, weight in zip(names, weights, strict=True):
            for key, value in state_dict["state"].get(name, {}).items():
                self.state[weight][key] = value.to(self._home, copy=True)

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        """One weight's step."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=self._home)
            state["exp_avg"] = torch.zeros_like(weight, device=self._home)
            state["exp_avg_sq"] = torch.zeros_like(weight, device=self._home)
        assert weight.grad is not None
        here, grad = weight.detach().to(self._home), weight.grad.to(self._home)
        beta1, beta2 = group["betas"]
        adamw(
            [here],
            [grad],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        if weight.device != self._home:
            weight.copy_(here)
