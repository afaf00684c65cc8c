"""The compiler: graphs, passes, kernels and generated code.  Pure: it knows no machine but its `Target`."""

VERSION = "0.1.0"
