import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from edgedetr.distill.training.averaging import MovingAverage
from edgedetr.distill.training.run_identity import RunIdentity
from edgedetr.distill.training.run_state import Progress, RunState
from edgedetr.runtime.errors import ArtifactError

IDENTITY = RunIdentity({"seed": 0}, {"teacher": "a" * 64})


def make_state(seed=0):
    """The state of a run that trains a linear layer, after one step."""
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    average = MovingAverage(network, 0.9)
    network(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    average.update(network)
    return RunState(network, average, optimizer, IDENTITY, epochs=5)  # type: ignore[arg-type]


def everything(state):
    moments = {
        f"{index}.{name}": value
        for index, named in state.optimizer.state_dict()["state"].items()
        for name, value in named.items()
    }
    return {**state.trainee.state_dict(), **state.average.state_dict(), **moments}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_state_comes_back_whole(tmp_path):
    saved, other = make_state(), make_state(seed=1)
    assert not same(everything(saved), everything(other))
    saved.save(tmp_path / "s.safetensors", Progress(3, 2), saved.tensors())
    assert other.load(tmp_path / "s.safetensors") == (3, 2)
    assert same(everything(saved), everything(other))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainee.weight", None, r"trainee.weight is missing, wanted float32 \(2, 3\)"),
        ("trainee.weight", torch.zeros(3, 2), r"is float32 \(3, 2\), wanted float32 \(2, 3\)"),
        ("trainee.bias", torch.zeros(2).half(), r"is float16 \(2,\), wanted float32 \(2,\)"),
        ("trainee.bias", torch.tensor([0, torch.nan]), "trainee.bias is not finite"),
        ("average.module.bias", torch.tensor([0, torch.inf]), "is not finite"),
        ("optimizer.0.exp_avg", None, "optimizer.0.exp_avg is missing"),
        ("optimizer.1.step", torch.zeros(1), r"step is float32 \(1,\), wanted float32 \(\)"),
        ("optimizer.2.exp_avg", torch.zeros(2), r"optimizer.2.exp_avg is .*wanted missing"),
        ("optimizer.-1.exp_avg", torch.zeros(2), "wanted missing"),
        ("optimizer.", torch.zeros(2), "wanted missing"),
        ("optimizer.0.max_exp_avg_sq", torch.zeros(2, 3), "wanted missing"),
        ("backbone.weight", torch.zeros(1), "backbone.weight is .*, wanted missing"),
    ],
)
def test_a_state_of_another_network_is_refused_and_nothing_is_taken_up(
    tmp_path, key, value, message
):
    path, state = tmp_path / "s.safetensors", make_state()
    state.save(path, Progress(3), state.tensors())
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    assert tensors.pop(key, None) is not None or value is not None
    save_file({**tensors, **({} if value is None else {key: value})}, path, metadata)
    refused(path, f"is no state of this run: .*{message}")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no state of a run that this version wrote .KeyError"),
        ({"epoch": "1", "config": "{}"}, "no state of a run that this version wrote .KeyError"),
        ({"epoch": "one"}, "no state of a run .*invalid literal"),
        ({"epoch": "9" * 5000}, "no state of a run that this version wrote .ValueError"),
        ({"epoch": "0"}, "says epoch 0 of 5"),
        ({"epoch": "6"}, "says epoch 6 of 5"),
        ({"epoch": "5", "step": "1"}, "says epoch 5 and 1 steps of 5"),
        ({"step": "-1"}, "says epoch 3 and -1 steps of 5"),
        ({"settings": "{"}, "no state of a run .*JSONDecodeError"),
        ({"settings": "[" * 90_000}, "no state of a run .*RecursionError"),
        ({"settings": "[1]"}, "no state of a run that this version wrote"),
        ({"settings": '{"seed": 1}'}, r"of another config \(seed was 1, is 0\)"),
        ({"sources": "7"}, "no state of a run that this version wrote"),
        (
            {"sources": json.dumps({"teacher": "b" * 64})},
            r"another config \(teacher was b{12}\.\.\., is a{12}\.\.\.\)",
        ),
    ],
)
def test_a_state_of_another_run_is_one_line(tmp_path, metadata, message):
    path, state = tmp_path / "s.safetensors", make_state()
    state.save(path, Progress(3), state.tensors())
    with safe_open(path, "pt") as file:
        own, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    foreign = metadata is None or "config" in metadata
    save_file(tensors, path, metadata if foreign else {**own, **metadata})
    refused(path, message)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_cut_state_is_one_line(tmp_path, share):
    path = tmp_path / "s.safetensors"
    state = make_state()
    state.save(path, Progress(3), state.tensors())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "is no readable state of a run: ")


def refused(path, message):
    state = make_state(seed=2)
    before = {k: v.clone() for k, v in everything(state).items()}
    with pytest.raises(ArtifactError, match=message) as caught:
        state.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert same(everything(state), before)
