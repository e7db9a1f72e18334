"""Of a model that is trained in part, only what is trained is saved, and it is loaded over the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from launcher.checkpoint.trained import put_trained, save_trained_only, trained_names, trains_in_part


class Tied(torch.nn.Module):
    """Two names of one frozen weight, a trained layer and a buffer."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.embed, self.head, self.inner = (torch.nn.Linear(2, 2, bias=False) for _ in range(3))
        self.head.weight = self.embed.weight
        self.embed.weight.requires_grad_(False)
        self.register_buffer("scale", torch.full((2,), value))
        with torch.no_grad():
            self.embed.weight.fill_(value)
            self.inner.weight.fill_(value)


class Engine:
    """DeepSpeed's, as far as saving goes: of a frozen weight it leaves out the first name only."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.saved: list[Any] = []

    def module_state_dict(self, *, exclude_frozen_parameters: bool = False) -> Any:
        state = self.module.state_dict()
        for name, parameter in self.module.named_parameters():
            if exclude_frozen_parameters and not parameter.requires_grad:
                del state[name]
        return state

    def save_checkpoint(self, save_dir: str, tag: str, exclude_frozen_parameters: bool = False) -> None:
        assert exclude_frozen_parameters
        self.saved.append((save_dir, tag, self.module_state_dict(exclude_frozen_parameters=exclude_frozen_parameters)))


def test_frozen_weights_are_saved_by_none_of_their_names() -> None:
    engine = Engine(Tied(1.0))
    assert trains_in_part(engine.module)
    assert trained_names(engine.module) == {"inner.weight", "scale"}
    assert set(engine.module_state_dict(exclude_frozen_parameters=True)) == {"head.weight", "inner.weight", "scale"}
    save_trained_only(engine)
    engine.save_checkpoint("dir", tag="step")
    ((folder, tag, state),) = engine.saved
    assert (folder, tag, set(state)) == ("dir", "step", {"inner.weight", "scale"})


def test_trained_weights_are_put_over_the_others_and_none_may_be_missing() -> None:
    saved = {"inner.weight": torch.full((2, 2), 5.0), "scale": torch.full((2,), 6.0)}
    model = Tied(1.0)
    put_trained(src=saved, dst=model)
    assert model.inner.weight[0, 0] == 5
    assert model.head.weight[0, 0] == 1
    with pytest.raises(AssertionError, match=r"lacks trained weights: \['inner\.weight'\]"):
        put_trained(src={"scale": saved["scale"]}, dst=model)
    with pytest.raises(AssertionError, match="no such weights"):
        put_trained(src={**saved, "other": saved["scale"]}, dst=model)


def test_a_model_that_is_trained_whole_is_not_trained_in_part() -> None:
    assert not trains_in_part(Tied(1.0).inner)
