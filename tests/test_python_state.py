"""What a compiled function reads and changes in Python: the same as undecorated, call by call.

Each case is made twice, from the same source.  One copy runs as it is, the other compiled; between
calls both are changed alike.  Results and what the function left behind must be equal.
"""

# ruff: noqa: PLW0108  # what a case replaces is to be looked up when it is called
import collections
import dataclasses
import functools
import logging
import math
import operator
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import taut
from taut import nn
from taut.frontend.compiled_function import MOST_PROGRAMS
from taut.frontend.errors import UntraceableError

Case = tuple[Callable[..., Any], list[Callable[[], Any]], Callable[[], Any]]
"""A function of one tensor, what happens before each further call, and what to look at."""

CASES: dict[str, Callable[[], Case]] = {}
TRACES: dict[str, int] = {}


def case(traces: int | None = None) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Registers a case; `traces`: how often it is traced, where that is promised."""

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        CASES[make.__name__] = make
        if traces is not None:
            TRACES[make.__name__] = traces
        return make

    return register


def nothing() -> None:
    return None


class Config:
    kind = "plain"

    def __init__(self) -> None:
        self.scale = 2.0
        self.sizes = [1, 2, 3]
        self.names = {"a": 1.0, "b": 2.0}

    @property
    def double(self) -> float:
        return self.scale * 2

    def method(self, x: Any) -> Any:
        return x * self.scale


class Slotted:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 3.0


@dataclasses.dataclass
class Record:
    rate: float = 0.5
    flag: bool = False


# --- reads ----------------------------------------------------------------------------------------


@case()
def an_attribute() -> Case:
    c = Config()
    return lambda x: x * c.scale, [lambda: setattr(c, "scale", 3.0)], nothing


@case()
def an_attribute_two_calls_deep() -> Case:
    c = Config()

    def inner(x: Any) -> Any:
        return x + c.scale

    def middle(x: Any) -> Any:
        return inner(x) * 2

    return middle, [lambda: setattr(c, "scale", 5.0)], nothing


@case()
def a_property_over_an_attribute() -> Case:
    c = Config()
    return lambda x: x * c.double, [lambda: setattr(c, "scale", 7.0)], nothing


@case()
def a_method_that_is_replaced_on_the_instance() -> Case:
    c = Config()
    return lambda x: c.method(x), [lambda: setattr(c, "method", lambda x: x - 1)], nothing


@case()
def a_method_that_is_replaced_on_the_class() -> Case:
    cls = type("Local", (Config,), {})
    c = cls()
    return lambda x: c.method(x), [lambda: setattr(cls, "method", lambda self, x: x - 1)], nothing


@case()
def a_class_attribute() -> Case:
    cls = type("Local", (Config,), {"offset": 1.0})
    c = cls()
    return lambda x: x + c.offset, [lambda: setattr(cls, "offset", 2.0)], nothing


@case()
def an_attribute_that_hides_the_class_attribute() -> Case:
    cls = type("Local", (Config,), {"offset": 1.0})
    c = cls()
    return lambda x: x + c.offset, [lambda: setattr(c, "offset", 2.0)], nothing


@case()
def an_attribute_that_is_deleted() -> Case:
    cls = type("Local", (Config,), {"offset": 1.0})
    c = cls()
    c.offset = 5.0
    return lambda x: x + c.offset, [lambda: delattr(c, "offset")], nothing


@case()
def a_slot() -> Case:
    s = Slotted()
    return lambda x: x * s.scale, [lambda: setattr(s, "scale", 4.0)], nothing


@case()
def a_dataclass_field() -> Case:
    r = Record()

    def f(x: Any) -> Any:
        return x * r.rate if not r.flag else x

    return f, [lambda: setattr(r, "flag", True), lambda: setattr(r, "rate", 9.0)], nothing


@case()
def a_namedtuple_that_is_replaced() -> Case:
    point = collections.namedtuple("point", "a b")  # noqa: PYI024  # as users write it
    c = types.SimpleNamespace(p=point(1.0, 2.0))
    return lambda x: x * c.p.a + c.p.b, [lambda: setattr(c, "p", point(3.0, 2.0))], nothing


@case()
def a_namespace() -> Case:
    c = types.SimpleNamespace(depth=2)

    def f(x: Any) -> Any:
        for _ in range(c.depth):
            x = x * 2
        return x

    return f, [lambda: setattr(c, "depth", 3), lambda: setattr(c, "depth", 0)], nothing


@case()
def a_list_element() -> Case:
    values = [1.0, 2.0]
    return lambda x: x * values[1], [lambda: operator.setitem(values, 1, 5.0)], nothing


@case()
def the_last_element_of_a_list_that_grows() -> Case:
    values = [1.0, 2.0]
    return lambda x: x * values[-1], [lambda: values.append(5.0)], nothing


@case()
def the_length_of_a_list() -> Case:
    values = [1.0, 2.0]
    return lambda x: x * len(values), [lambda: values.append(5.0)], nothing


@case()
def whether_a_list_is_empty() -> Case:
    values: list[float] = []

    def f(x: Any) -> Any:
        return x if values else -x

    return f, [lambda: values.append(5.0)], nothing


@case()
def a_loop_over_a_list() -> Case:
    values = [1.0, 2.0]

    def f(x: Any) -> Any:
        for v in values:
            x = x * v
        return x

    return (
        f,
        [lambda: values.append(5.0), lambda: values.reverse(), lambda: values.clear()],
        nothing,
    )


@case()
def a_comprehension_over_a_list() -> Case:
    values = [1.0, 2.0]
    return lambda x: x + sum([v * 2 for v in values]), [lambda: values.append(5.0)], nothing


@case()
def a_generator_over_a_list_of_functions() -> Case:
    layers: list[Any] = [taut.sin, taut.cos]

    def f(x: Any) -> Any:
        return functools.reduce(lambda v, layer: layer(v), layers, x)

    return f, [lambda: operator.setitem(layers, 0, taut.exp)], nothing


@case()
def a_nested_list() -> Case:
    values = [[1.0], [2.0]]
    return lambda x: x * values[1][0], [lambda: values[1].insert(0, 4.0)], nothing


@case()
def an_unpacked_list() -> Case:
    values = [1.0, 2.0]

    def f(x: Any) -> Any:
        a, b = values
        return x * a + b

    return f, [lambda: operator.setitem(values, 0, 5.0)], nothing


@case()
def a_slice_of_a_list() -> Case:
    values = [1.0, 2.0, 3.0]
    return lambda x: x + sum(values[1:]), [lambda: operator.setitem(values, 2, 5.0)], nothing


@case()
def a_dictionary_entry() -> Case:
    table = {"a": 1.0}
    return lambda x: x * table["a"], [lambda: table.update(a=3.0)], nothing


@case()
def a_dictionary_entry_by_get() -> Case:
    table: dict[str, float] = {}
    return lambda x: x * table.get("a", 2.0), [lambda: table.update(a=3.0), table.clear], nothing


@case()
def whether_a_key_is_there() -> Case:
    table: dict[str, float] = {}
    return lambda x: x if "a" in table else -x, [lambda: table.update(a=3.0)], nothing


@case()
def a_loop_over_items() -> Case:
    table = {"a": 1.0, "b": 2.0}

    def f(x: Any) -> Any:
        for name, value in table.items():
            x = x * value if name < "b" else x + value
        return x

    return f, [lambda: table.update(a=3.0), lambda: table.update(ab=4.0)], nothing


@case()
def keyword_arguments_from_a_dictionary() -> Case:
    table = {"min": 0.0, "max": 1.0}
    return lambda x: x.clamp(**table), [lambda: table.update(max=0.5)], nothing


@case()
def a_set() -> Case:
    on = {"sin"}
    return lambda x: x.sin() if "sin" in on else x, [on.clear], nothing


@case()
def a_deque() -> Case:
    last = collections.deque([1.0, 2.0], maxlen=2)
    return lambda x: x * sum(last), [lambda: last.append(7.0)], nothing


@case()
def a_default_dictionary() -> Case:
    table: dict[str, float] = collections.defaultdict(lambda: 2.0)
    table["a"] = 1.0
    return lambda x: x * table["a"], [lambda: table.update(a=6.0)], nothing


@case()
def an_attribute_by_name() -> Case:
    c, name = Config(), "scale"
    return lambda x: x * getattr(c, name), [lambda: setattr(c, "scale", 6.0)], nothing


@case()
def whether_there_is_an_attribute() -> Case:
    c = Config()
    return lambda x: x if hasattr(c, "extra") else -x, [lambda: setattr(c, "extra", 1)], nothing


@case()
def an_attribute_getter() -> Case:
    c, get = Config(), operator.attrgetter("scale")
    return lambda x: x * get(c), [lambda: setattr(c, "scale", 6.0)], nothing


@case()
def a_default_argument_that_is_a_list() -> Case:
    values = [2.0]

    def f(x: Any, factors: list[float] = values) -> Any:
        return x * factors[0]

    return f, [lambda: operator.setitem(values, 0, 3.0)], nothing


@case()
def a_partial_function() -> Case:
    c = types.SimpleNamespace(f=functools.partial(torch_like_scale, factor=2.0))
    return (
        lambda x: c.f(x),
        [lambda: setattr(c, "f", functools.partial(torch_like_scale, factor=3.0))],
        nothing,
    )


def torch_like_scale(x: Any, factor: float) -> Any:
    return x * factor


@case()
def a_closure_variable() -> Case:
    scale = 2.0

    def change() -> None:
        nonlocal scale
        scale = 4.0

    return lambda x: x * scale, [change], nothing


@case()
def a_closure_of_a_helper() -> Case:
    scale = 2.0

    def change() -> None:
        nonlocal scale
        scale = 4.0

    def helper(x: Any) -> Any:
        return x * scale

    return lambda x: helper(x) + 1, [change], nothing


@case()
def a_callable_object() -> Case:
    class Scale:
        def __init__(self) -> None:
            self.by = 2.0

        def __call__(self, x: Any) -> Any:
            return x * self.by

    scale = Scale()
    return lambda x: scale(x), [lambda: setattr(scale, "by", 3.0)], nothing


@case()
def an_operator_of_a_class() -> Case:
    class Scale:
        by = 2.0

        def __rmul__(self, x: Any) -> Any:
            return x * self.by

        def __matmul__(self, x: Any) -> Any:
            return x + self.by

    scale = Scale()
    return lambda x: scale @ x, [lambda: setattr(scale, "by", 3.0)], nothing


@case()
def a_flag_of_a_module() -> Case:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flag, self.by = False, 2.0

        def forward(self, x: Any) -> Any:
            return x * self.by if self.flag else x - self.by

    net = Net()
    return (
        lambda x: net(x),
        [lambda: setattr(net, "flag", True), lambda: setattr(net, "by", 3.0)],
        nothing,
    )


class Scaled(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Any) -> Any:
        return x * self.by


@case()
def a_list_of_modules_that_grows() -> Case:
    blocks = nn.ModuleList([Scaled(2.0), Scaled(3.0)])

    def f(x: Any) -> Any:
        for block in blocks:
            x = block(x)
        return x + len(blocks)

    def replace() -> None:
        blocks[0] = Scaled(7.0)

    return f, [lambda: blocks.append(Scaled(5.0)), replace], nothing


@case()
def a_dictionary_of_modules() -> Case:
    blocks = nn.ModuleDict({"a": Scaled(2.0)})

    def f(x: Any) -> Any:
        for name in sorted(blocks):
            x = blocks[name](x)
        return x

    return f, [lambda: blocks.update({"b": Scaled(5.0)}), lambda: blocks.pop("a")], nothing


@case()
def a_forward_that_is_replaced_on_the_class() -> Case:
    cls = type("Local", (Scaled,), {})
    net = cls(2.0)
    return lambda x: net(x), [lambda: setattr(cls, "forward", lambda self, x: x + 1)], nothing


@case()
def a_forward_that_is_replaced_on_the_instance() -> Case:
    net = Scaled(2.0)
    return lambda x: net(x), [lambda: setattr(net, "forward", lambda x: x + 1)], nothing


@case()
def the_mode_of_a_module() -> Case:
    net = nn.Linear(2, 2)
    return lambda x: x if net.training else -x, [net.eval, net.train], nothing


@case()
def a_sign_of_zero() -> Case:
    c = types.SimpleNamespace(zero=0.0)
    return lambda x: 1 / (x * 0 + c.zero), [lambda: setattr(c, "zero", -0.0)], nothing


@case()
def true_is_not_one() -> Case:
    c = types.SimpleNamespace(n=1)
    return lambda x: (x > 0) + c.n, [lambda: setattr(c, "n", True)], nothing


@case()
def a_dictionary_of_settings_passed_on() -> Case:
    settings: dict[str, Any] = {"depth": 1, "scale": 2.0}

    def block(x: Any, depth: int, scale: float) -> Any:
        for _ in range(depth):
            x = x * scale
        return x

    return lambda x: block(x, **settings), [lambda: settings.update(depth=3)], nothing


@case()
def a_name_that_hides_a_builtin() -> Case:
    scope: dict[str, Any] = {}
    exec("def f(x):\n    return x + len([1, 2, 3])", scope)  # noqa: S102  # with globals of its own
    return scope["f"], [lambda: scope.update(len=lambda _: 10)], nothing


@case()
def a_generator_of_its_own() -> Case:
    values = [1.0, 2.0]

    def scaled(x: Any) -> Any:
        for v in values:
            yield x * v

    def f(x: Any) -> Any:
        parts = scaled(x)
        return next(parts) + sum(parts)

    return f, [lambda: values.append(3.0)], nothing


@case()
def an_iterator_in_python() -> Case:
    class Counter:
        def __init__(self) -> None:
            self.n = 0

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            self.n += 1
            return self.n

    counter = Counter()
    return lambda x: x * next(counter), [nothing] * 4, lambda: counter.n


@case()
def a_list_zipped_with_another() -> Case:
    a, b = [1.0, 2.0], [3.0, 4.0]

    def f(x: Any) -> Any:
        for (i, p), q in zip(enumerate(a), reversed(b), strict=True):
            x = x * p + q * i
        return x

    return f, [lambda: operator.setitem(b, 0, 9.0)], nothing


# --- writes ---------------------------------------------------------------------------------------


@case(traces=1)
def a_list_of_metrics() -> Case:
    losses: list[Any] = []

    def f(x: Any) -> Any:
        y = x.sum()
        losses.append(y)
        return y

    return f, [nothing] * 3, lambda: losses


@case(traces=1)
def a_dictionary_of_lists() -> Case:
    history: dict[str, list[Any]] = {"loss": [], "norm": []}

    def f(x: Any) -> Any:
        history["loss"].append(x.sum())
        history["norm"].append((x * x).sum())
        return x

    return f, [nothing] * 3, lambda: history


@case(traces=1)
def rows_of_a_log() -> Case:
    log: list[dict[str, Any]] = []

    def f(x: Any) -> Any:
        row = {"mean": x.mean(), "tag": "train"}
        log.append(row)
        row["max"] = x.max()
        return x

    return f, [nothing] * 3, lambda: log


@case(traces=2)
def a_counter_in_an_attribute() -> Case:
    c = types.SimpleNamespace(steps=0)

    def f(x: Any) -> Any:
        c.steps += 1
        return x * c.steps

    return f, [nothing] * 6, lambda: c.steps


@case(traces=2)
def a_counter_that_nothing_depends_on() -> Case:
    count = 0

    def f(x: Any) -> Any:
        nonlocal count
        count += 1
        return x * 2

    return f, [nothing] * 6, lambda: count


@case(traces=3)
def a_counter_that_decides_now_and_then() -> Case:
    c = types.SimpleNamespace(steps=0)

    def f(x: Any) -> Any:
        c.steps += 1
        return x if c.steps % 3 else -x

    return f, [nothing] * 9, lambda: c.steps


@case(traces=2)
def an_average_of_numbers() -> Case:
    c = types.SimpleNamespace(rate=1.0)

    def f(x: Any) -> Any:
        c.rate = c.rate * 0.9 + 0.05
        return x * math.sqrt(c.rate)

    return f, [nothing] * 6, lambda: c.rate


@case(traces=2)
def a_moving_average_of_tensors() -> Case:
    c = types.SimpleNamespace(mean=taut.zeros(2))

    def f(x: Any) -> Any:
        c.mean = 0.9 * c.mean + 0.1 * x
        return x - c.mean

    return f, [nothing] * 6, lambda: c.mean


@case(traces=1)
def the_last_result_in_an_attribute() -> Case:
    c = types.SimpleNamespace(last=None)

    def f(x: Any) -> Any:
        c.last = x * 2
        return c.last + 1

    return f, [nothing] * 3, lambda: c.last


@case(traces=1)
def an_entry_that_is_replaced() -> Case:
    table: dict[str, Any] = {}

    def f(x: Any) -> Any:
        table["last"] = x.sum()
        return table["last"] * x

    return f, [nothing] * 3, lambda: table


@case()
def a_list_that_is_extended_and_read() -> Case:
    values = [1.0]

    def f(x: Any) -> Any:
        values.extend([2.0, 3.0])
        return x * len(values)

    return f, [nothing] * 3, lambda: values


@case()
def a_deque_of_recent_results() -> Case:
    recent: collections.deque[Any] = collections.deque(maxlen=2)

    def f(x: Any) -> Any:
        recent.append(x.sum())
        return x

    return f, [nothing] * 3, lambda: list(recent)


@case()
def a_list_changed_in_place_by_an_operator() -> Case:
    c = types.SimpleNamespace(values=[1.0])

    def f(x: Any) -> Any:
        c.values += [2.0]
        return x

    return f, [nothing] * 3, lambda: c.values


@case(traces=1)
def a_list_of_its_own() -> Case:
    def f(x: Any) -> Any:
        parts = []
        for i in range(3):
            parts.append(x * i)  # noqa: PERF401  # as users write it
        parts[0] = x
        return taut.stack(parts).sum(0)

    return f, [nothing] * 3, nothing


# --------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value with its tensors as lists, to be compared."""
    if isinstance(value, taut.Tensor):
        return ("tensor", str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return (type(value).__name__, value)


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_function_means_what_it_means_undecorated(name: str) -> None:
    (eager, eager_changes, eager_seen), (inner, changes, seen) = CASES[name](), CASES[name]()
    compiled = taut.compile(inner)
    for number, (change, other) in enumerate(
        zip([nothing, *changes], [nothing, *eager_changes], strict=True)
    ):
        change(), other()
        x = taut.tensor([0.5, -1.5]) + number
        assert plain(compiled(x)) == plain(eager(x))
        assert plain(seen()) == plain(eager_seen())
    if name in TRACES:
        assert compiled.stats()["traces"] == TRACES[name]


@pytest.mark.parametrize("compiled", [False, True])
def test_what_is_printed_is_printed_at_each_call(
    compiled: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    state = types.SimpleNamespace(steps=0)
    logger = logging.getLogger("training")
    caplog.set_level(logging.INFO, "training")

    def step(x: Any) -> Any:
        state.steps += 1
        print("step", state.steps, x.sum(), sep=" | ")
        print(*["a", "b"], end="!\n", sep="-")
        logger.info("norm %s at %d", (x * x).sum(), 3)
        return x * 2

    function = taut.compile(step) if compiled else step
    for number in range(3):
        function(taut.tensor([1.0, 2.0]) + number)
    assert capsys.readouterr().out.splitlines() == [
        "step | 1 | tensor(3.)",
        "a-b!",
        "step | 2 | tensor(5.)",
        "a-b!",
        "step | 3 | tensor(7.)",
        "a-b!",
    ]
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"norm tensor({n}.) at 3" for n in (5, 13, 25)]


# --- what is refused ------------------------------------------------------------------------------


def test_a_clock_is_refused_at_its_line() -> None:
    import time

    @taut.compile
    def step(x: Any) -> Any:
        return x + time.time()

    with pytest.raises(
        UntraceableError,
        match=r"time.time\(\) was called while tracing \(test_python_state.py:\d+\)",
    ):
        step(taut.ones(2))


def test_a_random_number_of_pythons_is_refused_at_its_line() -> None:
    import random

    @taut.compile
    def step(x: Any) -> Any:
        return x * random.random()

    with pytest.raises(UntraceableError, match=r"random number .* \(test_python_state.py:\d+\)"):
        step(taut.ones(2))


def test_an_iterator_that_was_there_before_is_refused() -> None:
    batches = iter([taut.ones(2), taut.zeros(2)])

    @taut.compile
    def step(x: Any) -> Any:
        return x + next(batches)

    with pytest.raises(UntraceableError, match=r"batches would be advanced while tracing \(test_p"):
        step(taut.ones(2))
    assert next(batches).tolist() == [1.0, 1.0]


def test_a_refusal_is_not_lost_where_the_code_catches_it() -> None:
    import time

    @taut.compile
    def step(x: Any) -> Any:
        try:
            now = time.time()
        except Exception:  # noqa: BLE001  # as careless code does
            now = 0.0
        return x + now

    with pytest.raises(UntraceableError, match=r"time.time\(\) was called"):
        step(taut.ones(2))


def test_what_a_library_does_is_refused_at_the_users_line() -> None:
    import os
    import random
    from datetime import datetime

    for what in (
        lambda x: x * random.choice([1, 2]),
        lambda x: x * datetime.now().hour,  # noqa: DTZ005  # as users write it
        lambda x: x * os.getpid(),
    ):
        with pytest.raises(UntraceableError, match=r"while tracing \(test_python_state.py:\d+\)"):
            taut.compile(what)(taut.ones(2))


def test_what_is_written_is_written_at_each_call(capsys: pytest.CaptureFixture[str]) -> None:
    @taut.compile
    def step(x: Any) -> Any:
        sys.stdout.write("called\n")
        return x

    for _ in range(3):
        step(taut.ones(2))
    assert capsys.readouterr().out == "called\n" * 3


def test_a_change_that_is_not_seen_is_refused_at_its_line() -> None:
    kept: list[Any] = []

    @taut.compile
    def step(x: Any) -> Any:
        list(map(kept.append, [x * 2]))
        return x

    with pytest.raises(
        UntraceableError, match=r"append was passed on \(test_python_state.py:\d+\)"
    ):
        step(taut.ones(2))


def test_tracing_without_end_is_an_error_that_says_why() -> None:
    state = types.SimpleNamespace(name="0")

    @taut.compile
    def step(x: Any) -> Any:
        return x + len(state.name)

    for number in range(MOST_PROGRAMS):
        state.name = str(number)
        step(taut.ones(2))
    state.name = "another"
    with pytest.raises(UntraceableError, match=r"traced 32 times .* state.name is another one"):
        step(taut.ones(2))


def test_a_call_that_fails_changes_nothing() -> None:
    log: list[Any] = []
    state = types.SimpleNamespace(steps=0)

    @taut.compile
    def step(x: Any) -> Any:
        log.append(1)
        state.steps += 1
        return x.reshape(3)

    with pytest.raises(RuntimeError, match="shape"):
        step(taut.ones(2))
    assert (log, state.steps) == ([], 0)


def test_a_check_that_fails_changes_nothing() -> None:
    log: list[Any] = []

    @taut.compile
    def step(x: Any, i: Any) -> Any:
        log.append(x.sum())
        return x[i]

    step(taut.ones(2), taut.tensor([1]))
    with pytest.raises(IndexError):
        step(taut.ones(2), taut.tensor([7]))
    assert plain(log) == [plain(taut.tensor(2.0))]
