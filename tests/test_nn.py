"""Modules behave and print as PyTorch's: golden values, and torch itself where installed."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import pytest

import taut
from taut import nn
from taut.frontend.context import epoch


class Affine(nn.Module):
    """A parameter, a buffer, a buffer that is not saved, and a child."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(taut.ones(2))
        self.register_buffer("shift", taut.zeros(2))
        self.register_buffer("scratch", taut.zeros(2), persistent=False)
        self.inner = nn.Identity()
        self.note = "plain"

    def forward(self, x: Any, factor: float = 1.0) -> Any:
        return self.inner(x) * self.scale * factor + self.shift


# --- parameters -------------------------------------------------------------------------------


def test_parameter_prints_as_in_pytorch() -> None:
    taut.manual_seed(0)
    linear = nn.Linear(3, 2)
    assert repr(linear.weight) == (
        "Parameter containing:\n"
        "tensor([[-0.0043,  0.3097, -0.4752],\n"
        "        [-0.4249, -0.2224,  0.1548]], requires_grad=True)"
    )
    assert repr(linear.bias) == (
        "Parameter containing:\ntensor([-0.0114,  0.4578], requires_grad=True)"
    )


def test_parameter_shares_memory_and_is_a_leaf() -> None:
    data = taut.zeros(3)
    parameter = nn.Parameter(data)
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert not data.requires_grad
    data[1] = 5.0
    assert parameter.tolist() == [0.0, 5.0, 0.0]
    assert not nn.Parameter(data, requires_grad=False).requires_grad
    with taut.no_grad():
        assert nn.Parameter(data).requires_grad
    assert isinstance(parameter * 1, taut.Tensor)
    assert not isinstance(parameter * 1, nn.Parameter)


def test_parameter_of_integers_cannot_be_trained() -> None:
    with pytest.raises(RuntimeError, match="floating point"):
        nn.Parameter(taut.tensor([1, 2]))


def test_copies_keep_the_class_and_share_nothing() -> None:
    net = nn.Sequential(Affine(), nn.Linear(2, 1))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301  # our own bytes
        assert type(other[0].scale) is nn.Parameter
        assert other[0].scale.requires_grad
        assert list(other.state_dict()) == list(net.state_dict())
        with taut.no_grad():
            other[1].weight.fill_(7.0)
        assert net[1].weight.tolist() != other[1].weight.tolist()
        assert other[0].inner is not net[0].inner


def test_shared_parameters_stay_shared_in_a_copy() -> None:
    net = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    net[1].weight = net[0].weight
    other = copy.deepcopy(net)
    assert other[1].weight is other[0].weight
    assert len(list(other.parameters())) == 3


# --- registration -----------------------------------------------------------------------------


def test_attributes_are_sorted_by_kind() -> None:
    module = Affine()
    assert [name for name, _ in module.named_parameters()] == ["scale"]
    assert [name for name, _ in module.named_buffers()] == ["shift", "scratch"]
    assert [name for name, _ in module.named_children()] == ["inner"]
    assert list(module.state_dict()) == ["scale", "shift"]
    assert "scale" in dir(module)
    assert "inner" in dir(module)


def test_assignment_moves_a_name_between_kinds() -> None:
    module = Affine()
    module.note = nn.Parameter(taut.ones(1))  # type: ignore[assignment]  # what is tested
    assert [name for name, _ in module.named_parameters()] == ["scale", "note"]
    module.note = nn.Identity()  # type: ignore[assignment]  # as above
    assert [name for name, _ in module.named_parameters()] == ["scale"]
    assert [name for name, _ in module.named_children()] == ["inner", "note"]
    del module.note
    assert not hasattr(module, "note")
    module.shift = taut.ones(2)
    assert module.get_buffer("shift").tolist() == [1.0, 1.0]
    module.scale = None  # type: ignore[assignment]  # as above
    assert list(module.parameters()) == []
    assert module.scale is None


def test_buffer_class_registers_itself() -> None:
    module = nn.Module()
    module.running = nn.Buffer(taut.ones(2))
    module.cache = nn.Buffer(taut.ones(2), persistent=False)
    assert [name for name, _ in module.named_buffers()] == ["running", "cache"]
    assert list(module.state_dict()) == ["running"]
    module.cache = taut.zeros(2)
    assert list(module.state_dict()) == ["running"]


ERRORS = [
    (lambda m: m.register_parameter("scale.x", None), KeyError, "parameter name can.*t contain"),
    (lambda m: m.register_parameter("", None), KeyError, 'can\\\\\'t be empty string ""'),
    (lambda m: m.register_parameter("note", None), KeyError, "attribute 'note' already exists"),
    (
        lambda m: m.register_parameter(3, None),
        TypeError,
        "parameter name should be a string. Got int",
    ),
    (
        lambda m: m.register_parameter("w", taut.ones(1)),
        TypeError,
        "cannot assign 'torch.FloatTensor' object to parameter 'w'",
    ),
    (
        lambda m: setattr(m, "scale", taut.ones(1)),
        TypeError,
        r"as parameter 'scale' \(torch.nn.Parameter or None expected\)",
    ),
    (
        lambda m: setattr(m, "inner", 3),
        TypeError,
        "cannot assign 'int' as child module 'inner' .torch.nn.Module or None expected.",
    ),
    (
        lambda m: setattr(m, "shift", 3),
        TypeError,
        "cannot assign 'int' as buffer 'shift' .torch.nn.Buffer, torch.Tensor or None expected.",
    ),
    (lambda m: m.register_buffer("b", 3), TypeError, "cannot assign 'int' object to buffer 'b'"),
    (lambda m: m.add_module("x", 3), TypeError, "int is not a Module subclass"),
    (lambda m: m.add_module("a.b", nn.Identity()), KeyError, "module name can.*t contain"),
    (lambda m: m.missing, AttributeError, "'Affine' object has no attribute 'missing'"),
    (
        lambda m: m.get_parameter("inner.weight"),
        AttributeError,
        "Identity has no attribute `weight`",
    ),
    (lambda m: m.get_submodule("note"), AttributeError, "`note` is not an nn.Module"),
    (lambda m: m.get_parameter("shift"), AttributeError, "`shift` is not an nn.Parameter"),
    (lambda m: m.get_buffer("scale"), AttributeError, "`scale` is not a buffer"),
    (lambda m: m.train(1), ValueError, "training mode is expected to be boolean"),
    (lambda m: m.to(taut.int64), TypeError, "only accepts floating point or complex dtypes"),
    (
        lambda m: nn.Module()(1),
        NotImplementedError,
        'Module .Module. is missing the required "forward"',
    ),
]


@pytest.mark.parametrize(("act", "error", "message"), ERRORS)
def test_misuse_raises_pytorchs_error_and_changes_nothing(
    act: Any, error: type[Exception], message: str
) -> None:
    module = Affine()
    before = dict(module.__dict__), repr(module), list(module.state_dict())
    with pytest.raises(error, match=message):
        act(module)
    assert (dict(module.__dict__), repr(module), list(module.state_dict())) == before


def test_assigning_before_init_says_so() -> None:
    class Hasty(nn.Module):
        def __init__(self, value: Any) -> None:
            self.value = value

    with pytest.raises(AttributeError, match=r"cannot assign module before Module.__init__"):
        Hasty(nn.Identity())
    with pytest.raises(AttributeError, match=r"cannot assign parameters before Module.__init__"):
        Hasty(nn.Parameter(taut.ones(1)))


def test_parameter_must_be_a_leaf() -> None:
    computed = nn.Parameter(taut.ones(2))
    computed.entry = (computed * 2).entry
    with pytest.raises(ValueError, match="Cannot assign non-leaf Tensor to parameter 'w'"):
        nn.Module().register_parameter("w", computed)


# --- walking and changing ---------------------------------------------------------------------


def test_names_through_the_tree() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 1), nn.ReLU()))
    assert [name for name, _ in net.named_modules()] == ["", "0", "1", "1.0", "1.1"]
    assert [name for name, _ in net.named_parameters()] == [
        "0.weight",
        "0.bias",
        "1.0.weight",
        "1.0.bias",
    ]
    assert [n for n, _ in net.named_parameters("net", recurse=False)] == []
    assert next(iter(net.named_parameters("net")))[0] == "net.0.weight"
    assert net.get_submodule("1.0") is net[1][0]
    assert net.get_parameter("1.0.weight") is net[1][0].weight
    seen: list[str] = []
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["Linear", "Linear", "ReLU", "Sequential", "Sequential"]


def test_modes_and_flags_reach_everywhere() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.5)))
    assert net.eval() is net
    assert not net[1][0].training
    assert net.train()[1][0].training
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_conversion_keeps_the_parameters_themselves() -> None:
    net = nn.Sequential(Affine(), nn.Linear(2, 1))
    net[0].register_buffer("count", taut.tensor(3))
    weight = net[1].weight
    net(taut.ones(1, 2)).sum().backward()
    assert net.double() is net
    assert net[1].weight is weight
    assert weight.dtype is taut.float64
    assert weight.grad is not None
    assert weight.grad.dtype is taut.float64
    assert net[0].shift.dtype is taut.float64
    assert net[0].count.dtype is taut.int64
    assert net(taut.ones(1, 2, dtype=taut.float64)).dtype is taut.float64
    assert net.to(taut.float32)[0].shift.dtype is taut.float32
    assert net.to("cpu") is net
    with pytest.raises(RuntimeError, match="CPU"):
        net.to("cuda")


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none: bool) -> None:
    net = nn.Linear(2, 1)
    net(taut.ones(1, 2)).sum().backward()
    net.zero_grad(set_to_none)
    grads = [p.grad for p in net.parameters()]
    if set_to_none:
        assert grads == [None, None]
    else:
        assert [g.tolist() for g in grads if g is not None] == [[[0.0, 0.0]], [0.0]]


CHANGES = [
    lambda m: setattr(m, "note", "other"),
    lambda m: delattr(m, "note"),
    lambda m: setattr(m, "scale", nn.Parameter(taut.zeros(2))),
    lambda m: setattr(m, "shift", taut.zeros(2)),
    lambda m: m.eval(),
    lambda m: m.requires_grad_(False),
    lambda m: m.double(),
    lambda m: m.add_module("other", nn.Identity()),
    lambda m: m.register_forward_hook(print),
    lambda m: m.load_state_dict(m.state_dict(), assign=True),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_structural_change_is_announced(change: Any) -> None:
    module = Affine()
    before = epoch.count
    change(module)
    assert epoch.count > before


def test_reading_and_calling_announce_nothing() -> None:
    module = Affine()
    before = epoch.count
    module(taut.ones(2))
    list(module.named_parameters())
    module.state_dict()
    assert epoch.count == before


# --- hooks ------------------------------------------------------------------------------------


def test_hooks_run_around_forward_and_can_be_removed() -> None:
    module, seen = Affine(), list[str]()

    def before(module: Any, args: Any) -> Any:
        seen.append("pre")
        return args[0] + 1

    def after(module: Any, args: Any, output: Any) -> Any:
        seen.append("post")
        return output + 0.5

    first = module.register_forward_pre_hook(before)
    module.register_forward_pre_hook(
        lambda m, args, kwargs: (args, {"factor": 10.0}), with_kwargs=True
    )
    second = module.register_forward_hook(after)
    assert module(taut.ones(2)).tolist() == [20.5, 20.5]
    assert seen == ["pre", "post"]
    first.remove()
    first.remove()
    with second:
        assert module(taut.ones(2)).tolist() == [10.5, 10.5]
    assert module(taut.ones(2)).tolist() == [10.0, 10.0]


def test_hooks_order_and_arguments() -> None:
    module, seen = Affine(), list[Any]()
    module.register_forward_hook(lambda m, args, out: seen.append(1))
    module.register_forward_hook(lambda m, args, out: seen.append(2), prepend=True)
    module.register_forward_hook(lambda m, a, kw, out: seen.append(kw), with_kwargs=True)
    module(taut.ones(2), factor=2.0)
    assert seen == [2, 1, {"factor": 2.0}]


def test_hook_that_is_always_called() -> None:
    module, seen = nn.Module(), list[Any]()
    module.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    module.register_forward_hook(lambda m, args, out: seen.append("no"))
    with pytest.raises(NotImplementedError):
        module()
    assert seen == [None]


def test_pre_hook_with_kwargs_must_return_a_pair() -> None:
    module = Affine()
    module.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple of"):
        module(taut.ones(2))


# --- state ------------------------------------------------------------------------------------


def test_state_dict_shares_memory_and_knows_versions() -> None:
    module = Affine()
    state = module.state_dict()
    with taut.no_grad():
        module.scale.fill_(3.0)
    assert state["scale"].tolist() == [3.0, 3.0]
    assert not state["scale"].requires_grad
    assert module.state_dict(keep_vars=True)["scale"] is module.scale
    assert dict(state._metadata) == {"": {"version": 1}, "inner": {"version": 1}}
    assert list(module.state_dict(prefix="a.")) == ["a.scale", "a.shift"]


def test_load_copies_or_assigns() -> None:
    source, module = Affine(), Affine()
    with taut.no_grad():
        source.scale.fill_(5.0)
    parameter = module.scale
    result = module.load_state_dict(source.state_dict())
    assert str(result) == repr(result) == "<All keys matched successfully>"
    assert module.scale is parameter
    assert parameter.tolist() == [5.0, 5.0]
    module.load_state_dict(source.state_dict(), assign=True)
    assert module.scale is not parameter
    assert type(module.scale) is nn.Parameter
    with taut.no_grad():
        source.scale.fill_(6.0)
    assert module.scale.tolist() == [6.0, 6.0]
    module.load_state_dict({"scale": taut.ones(2, dtype=taut.float64), "shift": taut.ones(2)})
    assert module.scale.dtype is taut.float32


def test_load_names_what_does_not_fit_and_writes_nothing() -> None:
    net = nn.Sequential(Affine(), nn.Linear(2, 1))
    before = {name: t.tolist() for name, t in net.state_dict().items()}
    given = {
        "0.scale": taut.full((2,), 9.0),
        "1.weight": taut.ones(3),
        "1.bias": 3,
        "1.other": taut.ones(1),
        "2.weight": taut.ones(1),
    }
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(given)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Sequential:\n"
        '\tMissing key(s) in state_dict: "0.shift". \n'
        '\tUnexpected key(s) in state_dict: "2.weight", "1.other". \n'
        "\tsize mismatch for 1.weight: copying a param with shape torch.Size([3]) from checkpoint, "
        "the shape in current model is torch.Size([1, 2]).\n"
        '\tWhile copying the parameter named "1.bias", expected torch.Tensor or Tensor-like object '
        "from checkpoint but received <class 'int'>"
    )
    assert {name: t.tolist() for name, t in net.state_dict().items()} == before


def test_load_not_strict_reports_the_keys() -> None:
    result = Affine().load_state_dict({"scale": taut.ones(2), "other": taut.ones(1)}, strict=False)
    assert result.missing_keys == ["shift"]
    assert result.unexpected_keys == ["other"]
    assert repr(result) == "_IncompatibleKeys(missing_keys=['shift'], unexpected_keys=['other'])"
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like, got <class 'list'>"):
        Affine().load_state_dict([])  # type: ignore[arg-type]  # what is tested


def test_extra_state_and_state_hooks() -> None:
    class Counting(nn.Module):
        calls = 0

        def get_extra_state(self) -> Any:
            return {"calls": self.calls}

        def set_extra_state(self, state: Any) -> None:
            self.calls = state["calls"]

    source, module, seen = Counting(), Counting(), list[str]()
    source.calls = 4
    source.register_state_dict_post_hook(lambda m, state, prefix, meta: seen.append("saved"))
    module.register_load_state_dict_pre_hook(lambda m, *rest: seen.append("loading"))
    module.register_load_state_dict_post_hook(lambda m, keys: seen.append(str(m.calls)))
    state = source.state_dict()
    assert list(state) == ["_extra_state"]
    module.load_state_dict(state)
    assert module.calls == 4
    assert seen == ["saved", "loading", "4"]


# --- containers -------------------------------------------------------------------------------


def test_sequential_as_a_sequence() -> None:
    a, b, c, d = (nn.Linear(1, 1) for _ in range(4))
    net = nn.Sequential(a, b)
    assert net.append(c) is net
    assert len(net) == 3
    assert net[-1] is c
    assert list(net[1:]) == [b, c]
    assert type(net[1:]) is nn.Sequential
    net[0] = d
    assert list(net) == [d, b, c]
    del net[1]
    assert list(net) == [d, c]
    assert list(net._modules) == ["0", "1"]
    assert list(net.insert(1, a)) == [d, a, c]
    assert net.pop(0) is d
    assert list(net) == [a, c]
    assert list(nn.Sequential(a) + nn.Sequential(b)) == [a, b]
    assert list(nn.Sequential(a, b) * 2) == [a, b, a, b]
    assert list(net.extend([b])) == [a, c, b]
    with pytest.raises(IndexError, match="index 7 is out of range"):
        net[7]
    with pytest.raises(ValueError, match="Non-positive multiplication factor 0"):
        net * 0


def test_sequential_of_names() -> None:
    net = nn.Sequential(OrderedDict([("first", nn.Linear(2, 3)), ("act", nn.Tanh())]))
    assert net.first is net[0]
    assert list(net.state_dict()) == ["first.weight", "first.bias"]
    assert net(taut.ones(1, 2)).shape == (1, 3)


def test_module_list_and_dict() -> None:
    a, b, c = (nn.Linear(1, 1) for _ in range(3))
    modules = nn.ModuleList([a])
    modules += [b]
    modules.insert(0, c)
    assert list(modules) == [c, a, b]
    assert modules[-1] is b
    assert list(modules[:2]) == [c, a]
    assert list(modules.__add__([c])) == [c, a, b, c]
    assert modules.pop(1) is a
    with pytest.raises(NotImplementedError):
        modules(1)
    named = nn.ModuleDict({"a": a})
    named["b"] = b
    named.update([("c", c)])
    assert list(named) == list(named.keys()) == ["a", "b", "c"]
    assert "b" in named
    assert named.pop("a") is a
    assert list(named.values()) == [b, c]
    assert len(named) == 2
    named.clear()
    assert not list(named.items())


def test_parameter_list_and_dict() -> None:
    values = nn.ParameterList([taut.ones(2), nn.Parameter(taut.zeros(1))])
    values.append(taut.ones(1))
    assert len(list(values.parameters())) == 3
    assert isinstance(values[0], nn.Parameter)
    assert len(values[1:]) == 2
    assert [name for name, _ in values.named_parameters()] == ["0", "1", "2"]
    named = nn.ParameterDict({"w": taut.ones(2)})
    named["b"] = taut.zeros(1)
    assert [name for name, _ in named.named_parameters()] == ["w", "b"]
    assert named.pop("w").tolist() == [1.0, 1.0]
    assert "w" not in named


# --- compiled -------------------------------------------------------------------------------------


def test_what_a_compiled_function_read_of_a_module_is_never_stale() -> None:
    module = Affine()
    run = taut.compile(lambda x: module(x))  # noqa: PLW0108  # not the module itself
    x = taut.tensor([1.0, 2.0])
    assert run(x).tolist() == [1.0, 2.0]
    with taut.no_grad():
        module.scale.fill_(3.0)
    assert run(x).tolist() == [3.0, 6.0]
    assert run.stats()["traces"] == 1
    module.scale = nn.Parameter(taut.tensor([0.5, 0.5]))
    assert run(x).tolist() == [0.5, 1.0]
    module.shift = taut.ones(2)
    assert run(x).tolist() == [1.5, 2.0]
    module.inner = nn.ReLU()  # type: ignore[assignment]  # what is tested
    assert run(-x).tolist() == [1.0, 1.0]
    with module.register_forward_hook(lambda m, args, out: out * 10):
        assert run(x).tolist() == [15.0, 20.0]
    assert run(x).tolist() == [1.5, 2.0]
    module.load_state_dict({"scale": taut.ones(2), "shift": taut.zeros(2)}, assign=True)
    assert run(x).tolist() == [1.0, 2.0]


def test_modes_are_respected_when_compiled() -> None:
    dropout = nn.Dropout(1.0)
    run = taut.compile(lambda x: dropout(x))  # noqa: PLW0108  # as above
    assert run(taut.ones(2)).tolist() == [0.0, 0.0]
    dropout.eval()
    assert run(taut.ones(2)).tolist() == [1.0, 1.0]


def test_a_module_may_be_made_while_tracing_but_no_other_changed() -> None:
    outside = Affine()

    @taut.compile
    def fine(x: Any) -> Any:
        outside.train()  # which it is already
        return nn.Sequential(nn.Tanh(), nn.Softmax(dim=-1))(x)

    assert fine(taut.zeros(2)).tolist() == [0.5, 0.5]

    @taut.compile
    def forgets(x: Any) -> Any:
        outside.note = "traced"
        return x

    @taut.compile
    def keeps(x: Any) -> Any:
        outside.shift = x
        return x

    for function in (forgets, keeps):
        with pytest.raises(RuntimeError, match=r"was changed while tracing \(test_nn.py:\d+\)"):
            function(taut.ones(2))
    assert outside.note == "plain"
    assert outside.shift.tolist() == [0.0, 0.0]


def test_a_state_dictionary_prints_as_an_ordered_one() -> None:
    module = nn.Module()
    module.register_buffer("count", taut.tensor(2))
    assert repr(module.state_dict()) == "OrderedDict([('count', tensor(2))])"
