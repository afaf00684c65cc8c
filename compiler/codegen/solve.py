"""Linear systems in LLVM text: a shim between row-major batches and LAPACK.

    void taut_solve_f32(ptr a, ptr b, ptr x, ptr regular, i64 batch, i64 n, i64 columns)

solves a x = b for each matrix of a batch by Gaussian elimination (LAPACK's `gesv`).  `regular` gets
a byte for each matrix: 0 where it is singular, and x is zero there.  Neither a nor b is written,
and x overlaps neither.
"""

from __future__ import annotations

from ..dtypes import DType
from ..errors import CompileError

_LLVM_TYPE = {"f32": ("float", 4, "sgesv"), "f64": ("double", 8, "dgesv")}

_TEXT = """\
declare void @LAPACK(ptr, ptr, ptr, ptr, ptr, ptr, ptr, ptr)
declare ptr @calloc(i64, i64)
declare void @free(ptr)

; to[j * rows + i] = from[i * columns + j]
define internal void @transpose(ptr %from, ptr %to, i64 %rows, i64 %columns) {
entry:
  %some.rows = icmp sgt i64 %rows, 0
  %some.columns = icmp sgt i64 %columns, 0
  %some = and i1 %some.rows, %some.columns
  br i1 %some, label %outer, label %done
outer:
  %i = phi i64 [ 0, %entry ], [ %i.next, %outer.end ]
  %row = mul i64 %i, %columns
  br label %inner
inner:
  %j = phi i64 [ 0, %outer ], [ %j.next, %inner ]
  %source = add i64 %row, %j
  %column = mul i64 %j, %rows
  %target = add i64 %column, %i
  %source.at = getelementptr FLOAT, ptr %from, i64 %source
  %target.at = getelementptr FLOAT, ptr %to, i64 %target
  %value = load FLOAT, ptr %source.at, align ALIGN
  store FLOAT %value, ptr %target.at, align ALIGN
  %j.next = add i64 %j, 1
  %j.more = icmp slt i64 %j.next, %columns
  br i1 %j.more, label %inner, label %outer.end
outer.end:
  %i.next = add i64 %i, 1
  %i.more = icmp slt i64 %i.next, %rows
  br i1 %i.more, label %outer, label %done
done:
  ret void
}

; Without memory for a copy the matrix counts as singular.  LAPACK does not look at a matrix if
; there are no columns to solve for, so it gets one of zeros then.
define void @NAME(ptr %a, ptr %b, ptr %x, ptr %regular, i64 %batch, i64 %n, i64 %columns) {
entry:
  %order = alloca i32
  %leading = alloca i32
  %right = alloca i32
  %info = alloca i32
  %n.narrow = trunc i64 %n to i32
  %some.columns = call i64 @llvm.smax.i64(i64 %columns, i64 1)
  %columns.narrow = trunc i64 %some.columns to i32
  %positive = call i32 @llvm.smax.i32(i32 %n.narrow, i32 1)
  store i32 %n.narrow, ptr %order
  store i32 %positive, ptr %leading
  store i32 %columns.narrow, ptr %right
  %matrix.size = mul i64 %n, %n
  %right.size = mul i64 %n, %columns
  %work.right.size = mul i64 %n, %some.columns
  %elements = add i64 %matrix.size, %work.right.size
  %element.bytes = mul i64 %elements, ALIGN
  %pivot.bytes = mul i64 %n, 4
  %used.bytes = add i64 %element.bytes, %pivot.bytes
  %bytes = add i64 %used.bytes, 8
  %work = call ptr @calloc(i64 %bytes, i64 1)
  %work.right = getelementptr FLOAT, ptr %work, i64 %matrix.size
  %pivots = getelementptr FLOAT, ptr %work, i64 %elements
  %x.bytes = mul i64 %right.size, ALIGN
  %none = icmp eq ptr %work, null
  %some = icmp sgt i64 %batch, 0
  br i1 %some, label %each, label %done
each:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %matrix.start = mul i64 %k, %matrix.size
  %right.start = mul i64 %k, %right.size
  %a.k = getelementptr FLOAT, ptr %a, i64 %matrix.start
  %b.k = getelementptr FLOAT, ptr %b, i64 %right.start
  %x.k = getelementptr FLOAT, ptr %x, i64 %right.start
  %regular.k = getelementptr i8, ptr %regular, i64 %k
  br i1 %none, label %singular, label %solve
solve:
  call void @transpose(ptr %a.k, ptr %work, i64 %n, i64 %n)
  call void @transpose(ptr %b.k, ptr %work.right, i64 %n, i64 %columns)
  store i32 0, ptr %info
  call void @LAPACK(ptr %order, ptr %right, ptr %work, ptr %leading, ptr %pivots,
                    ptr %work.right, ptr %leading, ptr %info)
  %status = load i32, ptr %info
  %solved = icmp eq i32 %status, 0
  br i1 %solved, label %good, label %singular
good:
  call void @transpose(ptr %work.right, ptr %x.k, i64 %columns, i64 %n)
  store i8 1, ptr %regular.k
  br label %next
singular:
  call void @llvm.memset.p0.i64(ptr %x.k, i8 0, i64 %x.bytes, i1 false)
  store i8 0, ptr %regular.k
  br label %next
next:
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %batch
  br i1 %more, label %each, label %done
done:
  call void @free(ptr %work)
  ret void
}

declare i32 @llvm.smax.i32(i32, i32)
declare i64 @llvm.smax.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


def solve_text(dtype: DType, name: str) -> tuple[str, tuple[str, ...]]:
    """The module that defines the shim as `name`, and the symbols that it needs.

    Raises:
        CompileError: LAPACK does not solve in this dtype.
    """
    if dtype.name not in _LLVM_TYPE:
        raise CompileError(f"solve: native code solves in f32 or f64, not {dtype.name}")
    element, size, lapack = _LLVM_TYPE[dtype.name]
    text = _TEXT.replace("FLOAT", element).replace("ALIGN", str(size))
    return text.replace("LAPACK", lapack).replace("NAME", name), (lapack, "calloc", "free")
