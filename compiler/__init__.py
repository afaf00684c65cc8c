"""The compiler: graphs, passes, kernels and generated code.

It is pure: it knows no machine but its `Target`.
"""

VERSION = "0.1.0"
