"""This machine: native code, buffers, LAPACK, caches.  The layer below the front end."""

from __future__ import annotations
