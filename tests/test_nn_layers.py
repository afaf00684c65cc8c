"""Layers, losses and starting values give PyTorch's numbers; torch is asked where installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import taut
from taut import nn

# --- numbers ----------------------------------------------------------------------------------


def test_linear_computes() -> None:
    linear = nn.Linear(2, 1)
    with taut.no_grad():
        linear.weight.copy_(taut.tensor([[2.0, -1.0]]))
        linear.bias.fill_(0.5)
    assert linear(taut.tensor([[3.0, 4.0]])).tolist() == [[2.5]]


def test_padding_row_is_zero_and_not_trained() -> None:
    table = nn.Embedding(3, 2, padding_idx=-3)
    assert table.padding_idx == 0
    assert table.weight[0].tolist() == [0.0, 0.0]
    table(taut.tensor([0, 1])).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    with pytest.raises(AssertionError, match="Padding_idx must be within num_embeddings"):
        nn.Embedding(3, 2, padding_idx=3)
    frozen = nn.Embedding.from_pretrained(taut.ones(2, 2))
    assert not frozen.weight.requires_grad


def test_dropout_only_in_training() -> None:
    dropout = nn.Dropout(0.5)
    x = taut.ones(1000)
    kept = dropout(x)
    assert set(kept.tolist()) == {0.0, 2.0}
    assert dropout.eval()(x).tolist() == x.tolist()
    with pytest.raises(
        ValueError, match="dropout probability has to be between 0 and 1, but got 2"
    ):
        nn.Dropout(2)


def test_clip_grad_norm() -> None:
    a, b = nn.Parameter(taut.zeros(2)), nn.Parameter(taut.zeros(1))
    a.grad, b.grad = taut.tensor([3.0, 0.0]), taut.tensor([4.0])
    assert nn.utils.clip_grad_norm_([a, b], 10.0).item() == 5.0
    assert a.grad.tolist() == [3.0, 0.0]
    nn.utils.clip_grad_norm_([a, b], 1.0)
    np.testing.assert_allclose([*a.grad.tolist(), *b.grad.tolist()], [0.6, 0.0, 0.8], rtol=1e-6)
    nn.utils.clip_grad_value_([a, b], 0.7)
    assert b.grad.tolist() == [np.float32(0.7)]
    a.grad = taut.tensor([float("nan"), 0.0])
    with pytest.raises(RuntimeError, match=r"total norm of order 2\.0 for gradients"):
        nn.utils.clip_grad_norm_(a, 1.0, error_if_nonfinite=True)


def test_parameters_as_a_vector() -> None:
    net = nn.Linear(2, 1)
    vector = nn.utils.parameters_to_vector(net.parameters())
    nn.utils.vector_to_parameters(taut.arange(3.0), net.parameters())
    assert vector.shape == (3,)
    assert net.weight.tolist() == [[0.0, 1.0]]
    assert net.bias.tolist() == [2.0]


# --- against torch ----------------------------------------------------------------------------

SAME_REPR = [
    lambda nn: nn.Linear(3, 4),
    lambda nn: nn.Linear(3, 4, bias=False),
    lambda nn: nn.Bilinear(2, 3, 4),
    lambda nn: nn.Sequential(),
    lambda nn: nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Sequential(nn.Tanh(), nn.Sigmoid())),
    lambda nn: nn.ModuleList([nn.Linear(2, 2) for _ in range(3)] + [nn.ReLU()]),
    lambda nn: nn.ModuleList([nn.Sequential(nn.GELU()), nn.Sequential(nn.GELU())]),
    lambda nn: nn.ModuleList(),
    lambda nn: nn.ModuleDict({"a": nn.GELU("tanh"), "b": nn.SiLU(inplace=True)}),
    lambda nn: nn.LeakyReLU(0.2),
    lambda nn: nn.LeakyReLU(0.2, inplace=True),
    lambda nn: nn.ReLU(inplace=True),
    lambda nn: nn.Softmax(dim=-1),
    lambda nn: nn.LogSoftmax(1),
    lambda nn: nn.Flatten(),
    lambda nn: nn.Unflatten(1, (2, 3)),
    lambda nn: nn.LayerNorm(4),
    lambda nn: nn.LayerNorm([3, 4], bias=False),
    lambda nn: nn.LayerNorm(4, elementwise_affine=False),
    lambda nn: nn.RMSNorm(4),
    lambda nn: nn.Embedding(10, 3),
    lambda nn: nn.Embedding(10, 3, padding_idx=-1),
    lambda nn: nn.Dropout(0.1),
    lambda nn: nn.Identity(3, x=4),
    lambda nn: nn.CrossEntropyLoss(),
    lambda nn: nn.BCEWithLogitsLoss(),
]


@pytest.mark.parametrize("make", SAME_REPR)
def test_repr_and_keys_equal_torchs(make: Any) -> None:
    torch = pytest.importorskip("torch")
    mine, theirs = make(nn), make(torch.nn)
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    shapes = [tuple(t.shape) for t in mine.state_dict().values()]
    assert shapes == [tuple(t.shape) for t in theirs.state_dict().values()]


def test_repr_of_parameter_lists_equals_torchs() -> None:
    torch = pytest.importorskip("torch")
    sizes = [(2, 3), (4,)]
    mine = nn.ParameterList([taut.ones(s) for s in sizes])
    theirs = torch.nn.ParameterList([torch.ones(s) for s in sizes])
    assert repr(mine) == repr(theirs)
    named = nn.ParameterDict({"a": taut.ones(2)})
    assert repr(named) == repr(torch.nn.ParameterDict({"a": torch.ones(2)}))


SAME_NUMBERS = [
    lambda nn: nn.Linear(3, 4),
    lambda nn: nn.Linear(300, 40, bias=False),
    lambda nn: nn.Bilinear(2, 3, 4),
    lambda nn: nn.LayerNorm((3, 4)),
    lambda nn: nn.RMSNorm(5),
    lambda nn: nn.Embedding(10, 3),
    lambda nn: nn.Embedding(40, 8, padding_idx=2),
    lambda nn: nn.Sequential(nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 1)),
]


@pytest.mark.parametrize("make", SAME_NUMBERS)
def test_initial_numbers_equal_torchs(make: Any) -> None:
    torch = pytest.importorskip("torch")
    taut.manual_seed(3)
    torch.manual_seed(3)
    mine, theirs = make(nn), make(torch.nn)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(mine.state_dict()[name].numpy(), tensor.numpy(), name)


@pytest.mark.parametrize(
    ("fill", "shape"),
    [
        (lambda init, w: init.uniform_(w, -2.0, 3.0), (3, 4)),
        (lambda init, w: init.normal_(w, 1.0, 2.0), (5, 4)),
        (lambda init, w: init.xavier_uniform_(w, gain=2.0), (3, 4, 2)),
        (lambda init, w: init.xavier_normal_(w), (3, 40)),
        (lambda init, w: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"), (3, 4)),
        (lambda init, w: init.kaiming_normal_(w, a=0.1), (3, 4, 5)),
        (lambda init, w: init.ones_(w), (2, 2)),
        (lambda init, w: init.constant_(w, 0.3), (2, 2)),
        (lambda init, w: init.zeros_(w), (2, 2)),
        (lambda init, w: init.eye_(w), (2, 3)),
        (lambda init, w: init.dirac_(w, 2), (4, 2, 3)),
    ],
)
def test_init_equals_torchs(fill: Any, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    taut.manual_seed(5)
    torch.manual_seed(5)
    mine, theirs = taut.empty(shape), torch.empty(shape)
    assert fill(nn.init, mine) is mine
    fill(torch.nn.init, theirs)
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 2, 2)])
def test_orthogonal_is_orthonormal_and_torchs(shape: tuple[int, ...]) -> None:
    taut.manual_seed(5)
    mine = nn.init.orthogonal_(taut.empty(shape), gain=2.0).numpy().reshape(shape[0], -1)
    gram = mine @ mine.T if mine.shape[0] < mine.shape[1] else mine.T @ mine
    np.testing.assert_allclose(
        gram, 4 * np.eye(len(gram)), atol=1e-5
    )  # float32 products of length 5
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    theirs = torch.nn.init.orthogonal_(torch.empty(shape), gain=2.0).numpy()
    np.testing.assert_allclose(
        mine, theirs.reshape(mine.shape), atol=1e-5
    )  # another LAPACK's rounding


def test_init_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="Fan in and fan out can not be computed"):
        nn.init.xavier_uniform_(taut.empty(3))
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        nn.init.calculate_gain("swish")
    with pytest.raises(ValueError, match="Mode fan_up not supported"):
        nn.init.kaiming_normal_(taut.empty(3, 3), mode="fan_up")
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        nn.init.kaiming_uniform_(taut.empty(0, 3))
    assert nn.init.calculate_gain("tanh") == 5 / 3


FORWARD = [
    (lambda nn: nn.Linear(6, 3), (4, 6)),
    (lambda nn: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 2), nn.Softmax(-1)), (4, 6)),
    (lambda nn: nn.Sequential(nn.LayerNorm(6), nn.SiLU(), nn.LeakyReLU(0.2)), (4, 6)),
    (lambda nn: nn.Sequential(nn.GELU("tanh"), nn.LogSoftmax(1)), (4, 6)),
    (lambda nn: nn.Sequential(nn.Tanh(), nn.Sigmoid(), nn.ReLU(), nn.Flatten()), (2, 3, 4)),
    (lambda nn: nn.RMSNorm(6), (4, 6)),
]


@pytest.mark.parametrize(("make", "shape"), FORWARD)
def test_forward_and_gradients_agree_with_torch(make: Any, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    taut.manual_seed(1)
    torch.manual_seed(1)
    mine, theirs = make(nn), make(torch.nn)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x, y = taut.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    out, expected = mine(x), theirs(y)
    (out * out).sum().backward()
    (expected * expected).sum().backward()
    # 1e-5: a few float32 roundings, and products of length 6 summed in another order
    np.testing.assert_allclose(
        out.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-4, atol=1e-5)
    for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-5)


LOSSES = [
    (lambda nn: nn.MSELoss(), "real"),
    (lambda nn: nn.MSELoss(reduction="sum"), "real"),
    (lambda nn: nn.L1Loss(reduction="none"), "real"),
    (lambda nn: nn.MSELoss(size_average=False), "real"),
    (lambda nn: nn.BCEWithLogitsLoss(), "unit"),
    (lambda nn: nn.CrossEntropyLoss(), "class"),
    (lambda nn: nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=1), "class"),
]


@pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")
@pytest.mark.parametrize(("make", "kind"), LOSSES)
def test_losses_agree_with_torch(make: Any, kind: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    values = rng.standard_normal((5, 3)).astype(np.float32)
    target: Any = {
        "real": rng.standard_normal((5, 3)).astype(np.float32),
        "unit": rng.random((5, 3)).astype(np.float32),
        "class": rng.integers(0, 3, 5),
    }[kind]
    got = make(nn)(taut.tensor(values), taut.tensor(target))
    expected = make(torch.nn)(torch.tensor(values), torch.tensor(target))
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_state_loads_from_torch_arrays() -> None:
    """A checkpoint's arrays, under torch's keys, make the same network."""
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    mine = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    state = {name: taut.from_numpy(t.numpy()) for name, t in theirs.state_dict().items()}
    assert str(mine.load_state_dict(state)) == "<All keys matched successfully>"
    x = np.ones((2, 3), np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(
        mine(taut.from_numpy(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6
    )


# --- the article ----------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(1, 10)
        self.fc2 = nn.Linear(10, 1)

    def forward(self, x: Any) -> Any:
        return self.fc2(taut.relu(self.fc1(x)))


def article_losses(torch: Any, net: Any, steps: int) -> list[str]:
    """The article's loop with `zero_grad`, printed as it prints."""
    criterion, optimizer = torch.nn.MSELoss(), torch.optim.SGD(net.parameters(), lr=0.01)
    x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    y = torch.tensor([[2.0], [4.0], [6.0], [8.0]])
    printed = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        printed.append(f"{loss.item():.4f}")
    return printed


def test_the_articles_network_trains_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch is not seen by the checker
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = torch.nn.Linear(1, 10)
            self.fc2 = torch.nn.Linear(10, 1)

        def forward(self, x: Any) -> Any:
            return self.fc2(torch.relu(self.fc1(x)))

    taut.manual_seed(0)
    torch.manual_seed(0)
    mine, theirs = Net(), Theirs()
    assert str(mine) == str(theirs).replace("Theirs", "Net")
    assert article_losses(taut, mine, 300) == article_losses(torch, theirs, 300)
