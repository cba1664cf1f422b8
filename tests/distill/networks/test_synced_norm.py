"""Batch norms over two processes are those of one."""

import copy
import json

import torch
from torch import nn

from edgedetr.distill.networks.synced_norm import SyncedBatchNorm2d, sync_batch_norms
from edgedetr.distill.networks.whole_batch import Part, part_of
from edgedetr.distill.training.processes import processes_of_run


def _errors(targets, out):
    """Write how far a network of two norms is from one process, for one image and two."""
    torch.manual_seed(0)
    x, weights = torch.randn(3, 8, 2, 3) + 1, torch.randn(3, 8, 2, 3)
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))
    network.append(nn.BatchNorm2d(8))
    alone = copy.deepcopy(network)
    wanted = alone(x)
    (wanted * weights).sum().backward()
    sync_batch_norms(network)
    with processes_of_run() as processes:
        assert processes.sums is not None
        rows = [[0], [1, 2]][processes.share.index]
        with part_of(Part((targets[0],) * 3, tuple(rows), processes.sums)):
            found = network(x[rows])
            (found * weights[rows]).sum().backward()
        pairs = [(found, wanted[rows])]
        for mine, theirs in zip(network.parameters(), alone.parameters(), strict=True):
            assert mine.grad is not None
            pairs.append((processes.sums.total(mine.grad), theirs.grad))
        pairs += zip(network.buffers(), alone.buffers(), strict=True)
    off = [(a - b).abs().max().item() for a, b in pairs]
    (out / f"{processes.share.index}.json").write_text(json.dumps(off))


def test_two_processes_have_the_outputs_gradients_and_statistics_of_one(
    run_of_processes, targets, tmp_path
):
    assert run_of_processes(2, _errors, targets, tmp_path) == [0, 0]
    for path in tmp_path.glob("*.json"):
        errors = json.loads(path.read_text())
        assert len(errors) == 1 + 8 + 6
        assert max(errors) < 2e-5
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_only_plain_norms_are_synced_and_alone_they_are_what_they_were():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
    plain, x = copy.deepcopy(network), torch.randn(2, 2, 3, 3)
    names = list(network.state_dict())
    sync_batch_norms(network)
    assert [type(module) for module in network] == [SyncedBatchNorm2d, nn.GroupNorm]
    assert list(network.state_dict()) == names
    assert torch.equal(network(x), plain(x))
    assert torch.equal(network.eval()(x), plain.eval()(x))
