"""Code generation: a scheduled program as LLVM text or as Python source."""
