"""Print pip constraints: each dependency at the lowest version that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
    print(re.sub(r"^([\w-]+)>=([\d.]+).*$", r"\1==\2", requirement))
