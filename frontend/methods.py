"""The methods and operators of `Tensor`: every one is a function, under PyTorch's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import inplace
from .arguments import explain_methods
from .context import current
from .core import TensorBase
from .functions import activation as N
from .functions import arithmetic as A
from .functions import conversion as C
from .functions import diagonals as D
from .functions import elementwise as E
from .functions import extremes as X
from .functions import gather as G
from .functions import index as I
from .functions import joining as J
from .functions import like as K
from .functions import linalg as L
from .functions import logic as B
from .functions import norms, random
from .functions import products as P
from .functions import reduce as R
from .functions import shape as S
from .functions import shifts as H
from .functions import statistics as T
from .functions.operands import OPERANDS
from .inplace import assign

Function = Callable[..., Any]


def _operator(function: Function) -> Function:
    """`tensor op other`; Python asks `other` where it is nothing that tensors know."""

    def method(self: Any, other: Any) -> Any:
        return function(self, other) if isinstance(other, OPERANDS) else NotImplemented

    return method


def _reflected(function: Function) -> Function:
    """`number op tensor` for a function that takes its operands in order."""

    def method(self: Any, other: Any) -> Any:
        return function(other, self) if isinstance(other, OPERANDS) else NotImplemented

    return method


def in_place(function: Function) -> Function:
    """The in-place form of a function: its result is written into its first argument."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return assign(self, function(_before(self, args), *args, **kwargs))

    method.__name__ = method.__qualname__ = function.__name__ + "_"
    method.__doc__ = function.__doc__
    method.__wrapped__ = function  # type: ignore[attr-defined]  # whose signature it has
    return method


def in_place_all(*functions: Function) -> Iterable[Any]:
    """The in-place forms of several functions."""
    return map(in_place, functions)


def _before(x: Any, others: tuple[Any, ...]) -> Any:
    """What a tensor holds before a write that is taped: the gradient may need it afterwards."""
    mode = current()
    if x.array is None or not mode.grad or mode.trace is not None:
        return x
    if not any(isinstance(t, TensorBase) and t._requires_grad for t in (x, *others)):
        return x
    return C.clone(x)


class Arithmetic(TensorBase):
    """Elementwise functions, and the operators that mean them."""

    __slots__ = ()

    add, sub, mul, div = A.add, A.sub, A.mul, A.div
    subtract, multiply, divide, true_divide = A.sub, A.mul, A.div, A.div
    floor_divide, remainder, fmod, pow = A.floor_divide, A.remainder, A.fmod, A.pow
    maximum, minimum, clamp, clip = A.maximum, A.minimum, A.clamp, A.clamp
    clamp_min, clamp_max, square = A.clamp_min, A.clamp_max, A.square
    exp, exp2, expm1, log, log1p, log2, log10 = (
        E.exp, E.exp2, E.expm1, E.log, E.log1p, E.log2, E.log10,
    )  # fmt: skip
    sqrt, rsqrt, reciprocal, erf = E.sqrt, E.rsqrt, E.reciprocal, E.erf
    sin, cos, tan, sinh, cosh, tanh = E.sin, E.cos, E.tan, E.sinh, E.cosh, E.tanh
    neg, negative, abs, absolute, sign = E.neg, E.neg, E.abs, E.abs, E.sign
    floor, ceil, trunc, fix, round, frac = E.floor, E.ceil, E.trunc, E.trunc, E.round, E.frac
    lerp, addcmul, addcdiv, nan_to_num = A.lerp, A.addcmul, A.addcdiv, E.nan_to_num
    sigmoid, relu, softmax, log_softmax = E.sigmoid, N.relu, N.softmax, N.log_softmax
    clone, cast = C.clone, C.cast
    new_zeros, new_ones, new_empty = K.new_zeros, K.new_ones, K.new_empty
    new_full, new_tensor = K.new_full, K.new_tensor

    __add__, __radd__ = _operator(A.add), _reflected(A.add)
    __sub__, __rsub__ = _operator(A.sub), _operator(A.rsub)
    __mul__, __rmul__ = _operator(A.mul), _reflected(A.mul)
    __truediv__, __rtruediv__ = _operator(A.div), _operator(A.rdiv)
    __floordiv__, __rfloordiv__ = _operator(A.floor_divide), _reflected(A.floor_divide)
    __mod__, __rmod__ = _operator(A.remainder), _reflected(A.remainder)
    __pow__, __rpow__ = _operator(A.pow), _operator(A.rpow)
    __matmul__, __rmatmul__ = _operator(P.matmul), _reflected(P.matmul)
    __neg__, __abs__ = E.neg, E.abs

    def __pos__(self) -> Any:
        return self


class Logic(TensorBase):
    """Comparison, logic and choice."""

    __slots__ = ()

    eq, ne, lt, le, gt, ge = B.eq, B.ne, B.lt, B.le, B.gt, B.ge
    less, less_equal, greater, greater_equal, not_equal = B.lt, B.le, B.gt, B.ge, B.ne
    logical_not, logical_and = B.logical_not, B.logical_and
    logical_or, logical_xor = B.logical_or, B.logical_xor
    bitwise_and, bitwise_or = B.bitwise_and, B.bitwise_or
    bitwise_xor, bitwise_not = B.bitwise_xor, B.bitwise_not
    bitwise_left_shift, bitwise_right_shift = H.bitwise_left_shift, H.bitwise_right_shift
    isnan, isinf, isfinite = B.isnan, B.isinf, B.isfinite
    isclose, allclose, equal = B.isclose, B.allclose, B.equal

    __lt__, __le__ = _operator(B.lt), _operator(B.le)
    __gt__, __ge__ = _operator(B.gt), _operator(B.ge)
    __eq__, __ne__ = _operator(B.eq), _operator(B.ne)
    __and__, __rand__ = _operator(B.bitwise_and), _reflected(B.bitwise_and)
    __or__, __ror__ = _operator(B.bitwise_or), _reflected(B.bitwise_or)
    __xor__, __rxor__ = _operator(B.bitwise_xor), _reflected(B.bitwise_xor)
    __lshift__, __rlshift__ = _operator(H.bitwise_left_shift), _reflected(H.bitwise_left_shift)
    __rshift__, __rrshift__ = _operator(H.bitwise_right_shift), _reflected(H.bitwise_right_shift)
    __invert__ = B.bitwise_not

    def where(self, condition: Any, other: Any) -> Any:
        """Itself where the condition holds, elsewhere `other`."""
        return B.where(condition, self, other)


class Views(TensorBase):
    """Shapes, views, and what joins and splits."""

    __slots__ = ()

    view, reshape, permute, transpose, t = S.view, S.reshape, S.permute, S.transpose, S.t
    view_as, reshape_as, expand_as = S.view_as, S.reshape_as, S.expand_as
    swapaxes, swapdims, movedim, moveaxis = S.transpose, S.transpose, S.movedim, S.movedim
    squeeze, unsqueeze, flatten, unflatten = S.squeeze, S.unsqueeze, S.flatten, S.unflatten
    expand, broadcast_to, narrow, select = S.expand, S.broadcast_to, S.narrow, S.select
    ravel, diagonal, diag, diag_embed = S.ravel, S.diagonal, D.diag, D.diag_embed
    flip, repeat, tile, roll = S.flip, S.repeat, S.tile, S.roll
    split, chunk, unbind, tensor_split = J.split, J.chunk, J.unbind, J.tensor_split
    repeat_interleave = J.repeat_interleave


class Reductions(TensorBase):
    """What combines elements into one."""

    __slots__ = ()

    sum, mean, prod, nansum = R.sum, R.mean, R.prod, R.nansum
    all, any, count_nonzero, logsumexp = R.all, R.any, R.count_nonzero, R.logsumexp
    max, min, amax, amin, aminmax = X.max, X.min, X.amax, X.amin, X.aminmax
    argmax, argmin, argsort, sort, topk = X.argmax, X.argmin, X.argsort, X.sort, X.topk
    unique = X.unique
    var, std, norm = T.var, T.std, norms.tensor_norm


class Indexing(TensorBase):
    """Elements and rows by position."""

    __slots__ = ()

    __getitem__, __setitem__ = I.getitem, I.setitem
    index_select, gather, take, take_along_dim = G.index_select, G.gather, G.take, G.take_along_dim
    scatter, scatter_add, index_add = G.scatter, G.scatter_add, G.index_add
    index_fill, index_put = G.index_fill, I.index_put
    masked_fill, masked_select = G.masked_fill, G.masked_select
    nonzero, argwhere, tril, triu = G.nonzero, G.argwhere, D.tril, D.triu


class Linalg(TensorBase):
    """Products, traces and inverses."""

    __slots__ = ()

    matmul, mm, bmm, mv, dot, outer = P.matmul, P.mm, P.bmm, P.mv, P.dot, P.outer
    addmm, addmv, baddbmm, inner = P.addmm, P.addmv, P.baddbmm, P.inner
    inverse, trace, matrix_power = L.inverse, D.trace, L.matrix_power


class InPlace(TensorBase):
    """Writes in place."""

    __slots__ = ()

    copy_, fill_, zero_ = inplace.copy_, inplace.fill_, inplace.zero_
    add_, sub_, mul_, div_ = in_place_all(A.add, A.sub, A.mul, A.div)
    pow_, clamp_, clip_, remainder_ = in_place_all(A.pow, A.clamp, A.clamp, A.remainder)
    clamp_min_, clamp_max_, square_ = in_place_all(A.clamp_min, A.clamp_max, A.square)
    floor_divide_, lerp_ = in_place_all(A.floor_divide, A.lerp)
    addcmul_, addcdiv_ = in_place_all(A.addcmul, A.addcdiv)
    neg_, abs_, sign_, reciprocal_ = in_place_all(E.neg, E.abs, E.sign, E.reciprocal)
    exp_, log_, log1p_, expm1_ = in_place_all(E.exp, E.log, E.log1p, E.expm1)
    sqrt_, rsqrt_, sin_, cos_ = in_place_all(E.sqrt, E.rsqrt, E.sin, E.cos)
    tanh_, sigmoid_, erf_, relu_ = in_place_all(E.tanh, E.sigmoid, E.erf, N.relu)
    floor_, ceil_, round_, trunc_ = in_place_all(E.floor, E.ceil, E.round, E.trunc)
    nan_to_num_, masked_fill_, index_fill_ = in_place_all(E.nan_to_num, G.masked_fill, G.index_fill)
    logical_not_, logical_and_, logical_or_ = in_place_all(
        B.logical_not, B.logical_and, B.logical_or
    )
    scatter_, scatter_add_, index_add_ = in_place_all(G.scatter, G.scatter_add, G.index_add)
    index_put_, tril_, triu_, addmm_ = in_place_all(I.index_put, D.tril, D.triu, P.addmm)
    bitwise_and_, bitwise_or_, bitwise_xor_ = in_place_all(
        B.bitwise_and, B.bitwise_or, B.bitwise_xor
    )
    bitwise_left_shift_, bitwise_right_shift_ = in_place_all(
        H.bitwise_left_shift, H.bitwise_right_shift
    )
    logical_xor_, bitwise_not_ = in_place_all(B.logical_xor, B.bitwise_not)
    uniform_, normal_, bernoulli_ = random.uniform_, random.normal_, random.bernoulli_
    exponential_, random_ = random.exponential_, random.random_
    bernoulli = random.bernoulli
    multinomial = random.multinomial
    __iadd__, __isub__, __imul__, __itruediv__ = map(_operator, (add_, sub_, mul_, div_))
    __ipow__, __ifloordiv__ = _operator(pow_), _operator(floor_divide_)
    __imod__, __iand__, __ior__ = map(_operator, (remainder_, bitwise_and_, bitwise_or_))
    __ixor__, __ilshift__, __irshift__ = map(
        _operator, (bitwise_xor_, bitwise_left_shift_, bitwise_right_shift_)
    )


class Methods(Arithmetic, Logic, Views, Reductions, Indexing, Linalg, InPlace):
    """All of them."""

    __slots__ = ()


explain_methods(Arithmetic, Logic, Views, Reductions, Indexing, Linalg, InPlace)
