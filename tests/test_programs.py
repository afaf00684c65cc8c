"""Small programs as research and teaching code has them: the same source gives PyTorch's numbers.

Each takes the library and a decorator for its steps: none, or `taut.compile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taut

torch = pytest.importorskip("torch")

Decorator = Callable[[Any], Any]


def data(m: Any, *shape: int, seed: int = 0) -> Any:
    return m.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def vae(m: Any, c: Decorator) -> Any:
    fn = m.nn.functional
    encoder, decoder = m.nn.Linear(6, 8), m.nn.Linear(4, 6)
    optimizer = m.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)

    @c
    def step(x: Any) -> Any:
        mean, logvar = encoder(x).chunk(2, dim=-1)
        z = mean + m.randn_like(mean) * (0.5 * logvar).exp()
        loss = fn.binary_cross_entropy_with_logits(decoder(z), x.sigmoid(), reduction="sum")
        loss = loss - 0.5 * m.sum(1 + logvar - mean.pow(2) - logvar.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss / len(x)

    return [step(data(m, 12, 6)) for _ in range(4)]


def rnn(m: Any, c: Decorator) -> Any:
    class Cell(m.nn.Module):  # type: ignore[misc]  # of either library
        def __init__(self) -> None:
            super().__init__()
            self.gates = m.nn.Linear(3 + 5, 4 * 5)
            self.out = m.nn.Linear(5, 2)

        def forward(self, xs: Any) -> Any:
            h, state = (m.zeros(xs.shape[1], 5) for _ in range(2))
            outputs = []
            for x in xs:
                i, f, g, o = self.gates(m.cat([x, h], dim=1)).chunk(4, 1)
                state = f.sigmoid() * state + i.sigmoid() * g.tanh()
                h = o.sigmoid() * state.tanh()
                outputs.append(self.out(h))
            return m.stack(outputs)

    net = Cell()
    optimizer = m.optim.AdamW(net.parameters(), lr=0.02)

    @c
    def step(xs: Any, ys: Any) -> Any:
        loss = m.nn.functional.mse_loss(net(xs), ys)
        optimizer.zero_grad()
        loss.backward()
        norm = m.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()
        return loss.detach(), norm

    return [part for _ in range(4) for part in step(data(m, 6, 4, 3), data(m, 6, 4, 2, seed=1))]


def reinforce(m: Any, c: Decorator) -> Any:
    policy = m.nn.Sequential(m.nn.Linear(3, 8), m.nn.Tanh(), m.nn.Linear(8, 4))
    optimizer = m.optim.SGD(policy.parameters(), lr=0.1)

    @c
    def update(states: Any, actions: Any, rewards: Any) -> Any:
        returns: list[Any] = []
        total: Any = m.zeros(())
        for reward in rewards.flip(0).unbind():
            total = reward + 0.9 * total
            returns.insert(0, total)
        advantage = m.stack(returns)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
        log_probs = policy(states).log_softmax(-1).gather(1, actions.unsqueeze(1)).squeeze(1)
        entropy = -(policy(states).softmax(-1) * policy(states).log_softmax(-1)).sum(-1).mean()
        loss = -(log_probs * advantage).mean() - 0.01 * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    found = []
    for episode in range(3):
        states = data(m, 7, 3, seed=episode)
        with m.no_grad():
            actions = m.multinomial(policy(states).softmax(-1), 1).squeeze(1)
        found.append(update(states, actions, states[:, 0] - actions.float()))
    return found


def contrastive(m: Any, c: Decorator) -> Any:
    fn = m.nn.functional
    net = m.nn.Sequential(m.nn.Linear(5, 8), m.nn.ReLU(), m.nn.Linear(8, 4))
    temperature = m.nn.Parameter(m.tensor(0.07).log())

    @c
    def loss_of(a: Any, b: Any) -> Any:
        a, b = (fn.normalize(net(x), dim=-1) for x in (a, b))
        logits = a @ b.T * (-temperature).exp()
        labels = m.arange(len(logits))
        return (fn.cross_entropy(logits, labels) + fn.cross_entropy(logits.T, labels)) / 2

    loss = loss_of(data(m, 6, 5), data(m, 6, 5) + 0.1 * data(m, 6, 5, seed=1))
    loss.backward()
    return [loss, temperature.grad, *(p.grad for p in net.parameters())]


def gan(m: Any, c: Decorator) -> Any:
    bce = m.nn.BCEWithLogitsLoss()
    make = m.nn.Sequential(m.nn.Linear(2, 8), m.nn.LeakyReLU(0.2), m.nn.Linear(8, 3))
    judge = m.nn.Sequential(m.nn.Linear(3, 8), m.nn.LeakyReLU(0.2), m.nn.Linear(8, 1))
    g_opt = m.optim.Adam(make.parameters(), lr=1e-2, betas=(0.5, 0.999))
    d_opt = m.optim.Adam(judge.parameters(), lr=1e-2, betas=(0.5, 0.999))

    @c
    def step(real: Any, z: Any) -> Any:
        fake = make(z)
        d_opt.zero_grad()
        d_loss = bce(judge(real), m.ones(len(real), 1))
        d_loss = d_loss + bce(judge(fake.detach()), m.zeros(len(z), 1))
        d_loss.backward()
        d_opt.step()
        g_opt.zero_grad()
        g_loss = bce(judge(fake), m.ones(len(z), 1))
        g_loss.backward()
        g_opt.step()
        return d_loss.item() if c is plain else d_loss, g_loss

    return [loss for i in range(4) for loss in step(data(m, 9, 3, seed=i), data(m, 9, 2, seed=i))]


def mixup(m: Any, c: Decorator) -> Any:
    net = m.nn.Linear(4, 3)
    average = {name: p.detach().clone() for name, p in net.named_parameters()}
    criterion = m.nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = m.optim.SGD(net.parameters(), lr=0.3, momentum=0.9, nesterov=True)

    @c
    def step(x: Any, y: Any, mixed: float, order: Any) -> Any:
        logits = net(mixed * x + (1 - mixed) * x[order])
        loss = mixed * criterion(logits, y) + (1 - mixed) * criterion(logits, y[order])
        (loss / 2).backward()
        return loss

    @c
    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()
        with m.no_grad():
            for name, p in net.named_parameters():
                average[name].mul_(0.9).add_(p, alpha=0.1)

    losses = []
    for i in range(6):
        losses.append(step(data(m, 8, 4, seed=i), m.arange(8) % 3, 0.3 + 0.1 * i, m.randperm(8)))
        if i % 2:
            update()
    return [*losses, *average.values()]


def lora(m: Any, c: Decorator) -> Any:
    class Lora(m.nn.Module):  # type: ignore[misc]  # of either library
        def __init__(self, base: Any, rank: int) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.a = m.nn.Parameter(m.randn(rank, base.in_features) / 4)
            self.b = m.nn.Parameter(m.zeros(base.out_features, rank))

        def forward(self, x: Any) -> Any:
            return self.base(x) + x @ self.a.T @ self.b.T

    net = m.nn.Sequential(m.nn.Embedding(7, 5), Lora(m.nn.Linear(5, 5), 2), m.nn.Linear(5, 7))
    net[2].weight = net[0].weight  # tied
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = m.optim.Adam(trained, lr=0.05)

    @c
    def step(tokens: Any) -> Any:
        logits = net(tokens[:, :-1])
        loss = m.nn.functional.cross_entropy(logits.reshape(-1, 7), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    tokens = m.arange(12).reshape(3, 4) % 7
    return [*(step(tokens) for _ in range(4)), net[1].b, net[0].weight, net[1].base.weight]


def norms(m: Any, c: Decorator) -> Any:
    """Weight norm by hand, and spectral norm by power iteration."""
    v, g = m.nn.Parameter(data(m, 4, 3)), m.nn.Parameter(m.ones(4, 1))
    w, u = m.nn.Parameter(data(m, 5, 4, seed=1)), data(m, 5, seed=2)

    @c
    def loss_of(x: Any) -> Any:
        hidden = x @ (g * v / v.norm(dim=1, keepdim=True)).T
        with m.no_grad():
            right = m.nn.functional.normalize(w.T @ u, dim=0)
            u.copy_(m.nn.functional.normalize(w @ right, dim=0))
        sigma = m.dot(u, w @ right)
        return (hidden.relu() @ (w / sigma).T).pow(2).mean()

    losses = []
    for i in range(3):
        loss = loss_of(data(m, 6, 3, seed=i))
        loss.backward()
        losses.append(loss)
    return [*losses, u, *(p.grad for p in (v, g, w))]


def gumbel(m: Any, c: Decorator) -> Any:
    logits = m.nn.Parameter(data(m, 6, 4))

    @c
    def sample(values: Any) -> Any:
        noise = -(-m.rand(6, 4).clamp_min(1e-9).log()).log()
        soft = ((logits + noise) / 0.7).softmax(-1)
        hard = m.nn.functional.one_hot(soft.argmax(-1), 4).float()
        return (((hard - soft).detach() + soft) * values).sum()

    total = sample(data(m, 4, seed=1))
    total.backward()
    return [total, logits.grad]


def triplet(m: Any, c: Decorator) -> Any:
    net = m.nn.Linear(4, 3)

    @c
    def loss_of(x: Any, labels: Any) -> Any:
        z = net(x)
        distances = ((z[:, None] - z[None]) ** 2).sum(-1).clamp_min(1e-12).sqrt()
        same = labels[:, None] == labels[None]
        furthest = distances.masked_fill(~same, -1e9).max(1).values
        nearest = distances.masked_fill(same, 1e9).min(1).values
        return m.nn.functional.relu(furthest - nearest + 0.5).mean()

    loss = loss_of(data(m, 9, 4), m.arange(9) % 3)
    loss.backward()
    return [loss, net.weight.grad, net.bias.grad]


def distillation(m: Any, c: Decorator) -> Any:
    fn = m.nn.functional
    teacher, student = m.nn.Linear(5, 4).eval(), m.nn.Linear(5, 4)
    schedule_of = m.optim.lr_scheduler.CosineAnnealingLR
    optimizer = m.optim.SGD(student.parameters(), lr=0.5, weight_decay=0.01)
    schedule = schedule_of(optimizer, T_max=4)

    @c
    def step(x: Any, y: Any) -> Any:
        with m.no_grad():
            targets = fn.softmax(teacher(x) / 2, dim=-1)
        soft = fn.kl_div(fn.log_softmax(student(x) / 2, -1), targets, reduction="batchmean") * 4
        loss = 0.7 * soft + 0.3 * fn.cross_entropy(student(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for _ in range(4):
        losses.append(step(data(m, 8, 5), m.arange(8) % 4))
        schedule.step()
    return losses


def gradient_penalty(m: Any, c: Decorator) -> Any:
    critic = m.nn.Sequential(m.nn.Linear(3, 8), m.nn.Tanh(), m.nn.Linear(8, 1))
    optimizer = m.optim.Adam(critic.parameters(), lr=0.01)
    score = c(lambda x: critic(x))  # noqa: PLW0108  # modules compile in another way

    losses = []
    for i in range(3):
        real, fake = data(m, 6, 3, seed=i), data(m, 6, 3, seed=9)
        share = m.rand(6, 1)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = m.autograd.grad(score(between).sum(), between, create_graph=True)
        penalty = ((slope.norm(2, dim=1) - 1) ** 2).mean()
        loss = score(fake).mean() - score(real).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    return losses


def maml(m: Any, c: Decorator) -> Any:
    net = m.nn.Sequential(m.nn.Linear(1, 8), m.nn.Tanh(), m.nn.Linear(8, 1))
    params = {name: p.detach().clone() for name, p in net.named_parameters()}
    call, grad, vmap = m.func.functional_call, m.func.grad, m.func.vmap

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        return m.nn.functional.mse_loss(call(net, p, (x,)), y)

    def adapted(p: Any, x: Any, y: Any, x2: Any, y2: Any) -> Any:
        slopes = grad(loss_of)(p, x, y)
        return loss_of({k: v - 0.1 * slopes[k] for k, v in p.items()}, x2, y2)

    @c
    def step(p: Any, *tasks: Any) -> Any:
        def meta(p: Any) -> Any:
            return vmap(adapted, in_dims=(None, 0, 0, 0, 0))(p, *tasks).mean()

        slopes, loss = m.func.grad_and_value(meta)(p)
        return {k: v - 0.01 * slopes[k] for k, v in p.items()}, loss

    losses = []
    for i in range(3):
        tasks = [data(m, 4, 5, 1, seed=i * 4 + j) for j in range(4)]
        params, loss = step(params, *tasks)
        losses.append(loss)
    return [*losses, *params.values()]


def neural_ode(m: Any, c: Decorator) -> Any:
    field = m.nn.Sequential(m.nn.Linear(3, 8), m.nn.Tanh(), m.nn.Linear(8, 2))
    optimizer = m.optim.Adam(field.parameters(), lr=0.01)

    @c
    def step(x: Any, target: Any) -> Any:
        state = x
        for t in m.linspace(0, 1, 6)[:-1]:
            state = state + 0.2 * field(m.cat([state, t.expand(len(state), 1)], 1))
        loss = (state - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return [step(data(m, 5, 2), data(m, 5, 2, seed=1)) for _ in range(3)]


def factorisation(m: Any, c: Decorator) -> Any:
    users, items = m.nn.Embedding(6, 3), m.nn.Embedding(5, 3)
    bias = m.zeros(5, requires_grad=True)
    optimizer = m.optim.SGD([*users.parameters(), *items.parameters(), bias], lr=0.2)

    @c
    def step(u: Any, i: Any, rating: Any) -> Any:
        predicted = (users(u) * items(i)).sum(-1) + bias[i]
        loss = (
            m.nn.functional.smooth_l1_loss(predicted, rating) + 1e-2 * users.weight.square().sum()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    u, i = m.arange(10) % 6, m.arange(10) * 3 % 5
    return [*(step(u, i, data(m, 10)) for _ in range(4)), bias]


def k_means(m: Any, c: Decorator) -> Any:
    @c
    def step(x: Any, centres: Any) -> Any:
        nearest = m.cdist(x, centres).argmin(1)
        members = m.nn.functional.one_hot(nearest, 3).to(x.dtype)
        counts = members.sum(0).clamp(min=1)
        return (members.T @ x) / counts[:, None], nearest

    x = data(m, 20, 2)
    centres = x[:3].clone()
    for _ in range(5):
        centres, nearest = step(x, centres)
    return [centres, nearest]


def mixture(m: Any, c: Decorator) -> Any:
    @c
    def em(x: Any, weights: Any, means: Any, variances: Any) -> Any:
        log_density = -0.5 * ((x[:, None] - means) ** 2 / variances + (2 * m.pi * variances).log())
        joint = log_density + weights.log()
        evidence = m.logsumexp(joint, dim=1, keepdim=True)
        duty = (joint - evidence).exp()
        total = duty.sum(0)
        means = (duty * x[:, None]).sum(0) / total
        variances = (duty * (x[:, None] - means) ** 2).sum(0) / total
        return total / x.shape[0], means, variances, evidence.mean()

    x = m.cat([data(m, 15), data(m, 15, seed=1) * 0.5 + 4])
    state: Any = m.full((2,), 0.5), m.tensor([-1.0, 1.0]), m.ones(2)
    for _ in range(5):
        *state, evidence = em(x, *state)
    return [*state, evidence]


def kalman(m: Any, c: Decorator) -> Any:
    f, h = m.tensor([[1.0, 0.1], [0.0, 1.0]]), m.tensor([[1.0, 0.0]])
    noise, eye = 0.01 * m.eye(2), m.eye(2)

    @c
    def filtered(zs: Any, x: Any, p: Any) -> Any:
        found = []
        for z in zs:
            x, p = f @ x, f @ p @ f.T + noise
            gain = m.linalg.solve(h @ p @ h.T + 0.1 * m.eye(1), h @ p).T
            x = x + gain @ (z - h @ x)
            p = (eye - gain @ h) @ p
            found.append(x)
        return m.stack(found), p

    return list(filtered(data(m, 8, 1), m.zeros(2), m.eye(2)))


def double_dqn(m: Any, c: Decorator) -> Any:
    from copy import deepcopy

    net = m.nn.Sequential(m.nn.Linear(3, 8), m.nn.ReLU(), m.nn.Linear(8, 4))
    target = deepcopy(net).requires_grad_(False)
    optimizer = m.optim.Adam(net.parameters(), lr=0.01)

    @c
    def step(s: Any, a: Any, r: Any, s2: Any, done: Any) -> Any:
        q = net(s).gather(1, a[:, None])[:, 0]
        with m.no_grad():
            best = net(s2).argmax(1, keepdim=True)
            goal = r + 0.9 * target(s2).gather(1, best).squeeze(1) * (1 - done.float())
        loss = m.nn.functional.huber_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for i in range(4):
        s = data(m, 6, 3, seed=i)
        losses.append(step(s, m.arange(6) % 4, s.sum(1), s + 1, s[:, 0] > 0))
        if i == 1:
            target.load_state_dict(net.state_dict())
    return losses


def hessian_of_a_network(m: Any, c: Decorator) -> Any:
    x, y = data(m, 6, 2), data(m, 6, seed=1)

    @c
    def curvature(w: Any) -> Any:
        loss = lambda w: ((x @ w[:2] + w[2]).tanh() - y).square().mean()  # noqa: E731
        matrix = m.func.hessian(loss)(w)
        step = m.linalg.solve(matrix + 0.5 * m.eye(3), m.func.grad(loss)(w))
        return w - step, matrix, m.func.jvp(m.func.grad(loss), (w,), (m.ones(3),))[1]

    w = m.zeros(3)
    for _ in range(3):
        w, matrix, product = curvature(w)
    return [w, matrix, product]


def plain(f: Any) -> Any:
    return f


PROGRAMS = (
    *(vae, rnn, reinforce, contrastive, gan, mixup, lora, norms, gumbel, triplet, distillation),
    *(gradient_penalty, maml, neural_ode, factorisation, k_means, mixture, kalman, double_dqn),
    hessian_of_a_network,
)


def numbers(found: Any) -> list[Any]:
    return [np.asarray(x.detach().numpy() if hasattr(x, "detach") else x) for x in found]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program(program: Any) -> None:
    torch.manual_seed(3)
    want = numbers(program(torch, plain))
    for decorate in (plain, taut.compile):
        taut.manual_seed(3)
        # Sums of some ten terms in f32, over a few steps of training.
        for got, expected in zip(numbers(program(taut, decorate)), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)
