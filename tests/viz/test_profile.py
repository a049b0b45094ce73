"""What a profile counts, and where."""

import numpy as np

import tinygen as tg
from tinygen import nn, optim, viz
from tinygen.models import VAE

RNG = np.random.default_rng(0)


class Net(nn.Module):
    def __init__(self) -> None:
        self.conv = nn.Conv2d(3, 5, (2, 3), RNG, stride=2)
        self.hidden = nn.Linear(40, 7, RNG, activation="relu")
        self.weight = nn.Parameter(np.ones((7, 2), np.float32))
        self.optimizer = optim.SGD(self.parameters(), 0.1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.hidden(tg.reshape(self.conv(x), (len(x), -1))) @ self.weight


def test_products_are_counted_where_they_were_called() -> None:
    net, x = Net(), tg.Tensor(RNG.standard_normal((6, 4, 9, 3)).astype(np.float32), requires_grad=True)
    with viz.profile() as found:
        net.optimizer.minimize(tg.sum(net(x)))
    rows = {(row.module, row.operation): row for row in found.rows}
    conv = rows["Net.conv", "conv2d"]
    assert (conv.calls, conv.flops) == (1, 2 * 2 * 6 * 2 * 4 * 5 * 2 * 3 * 3)  # x needs no gradient of the optimizer
    assert rows["Net.hidden", "linear"].flops == 3 * 2 * 6 * 40 * 7
    assert rows["Net", "matrix_product"].flops == 3 * 2 * 6 * 7 * 2
    assert rows["", "SGD._update"].calls == 1
    assert all(row.forward > 0 for row in found.rows) and conv.backward > 0 and conv.bytes > x.data.nbytes
    assert sum(row.seconds for row in found.rows) < found.seconds
    assert [row.seconds for row in found.rows] == sorted((row.seconds for row in found.rows), reverse=True)
    lines = str(found).splitlines()
    assert len(lines) == len(found.rows) + 2 and "Python" in lines[-1]


def test_the_gradient_of_the_input_is_counted_too() -> None:
    net, x = Net(), tg.Tensor(RNG.standard_normal((6, 4, 9, 3)).astype(np.float32), requires_grad=True)
    with viz.profile() as found:
        tg.sum(net.conv(x)).backward()
    assert found.rows and {row.flops for row in found.rows if row.operation == "conv2d"} == {3 * 2 * 6 * 8 * 5 * 18}
    assert x.grad is not None


def test_results_are_the_same_and_replayed_functions_are_seen_into() -> None:
    models = [VAE.mlp((9,), 2, np.random.default_rng(0), width=4) for _ in range(2)]
    x = RNG.integers(0, 2, (5, 9)).astype(np.float32)
    for seed in range(4):
        with viz.profile() as found:
            watched = models[0].train_step(x, np.random.default_rng(seed))
        assert watched == models[1].train_step(x, np.random.default_rng(seed))
        assert any(row.module.startswith("encoder") for row in found.rows)
