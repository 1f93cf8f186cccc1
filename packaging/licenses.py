"""Print the license of each package of a software bill of materials: ``licenses.py SBOM ENVIRONMENT``.

A package that declares no license is listed with the first line of its license file.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def declared(component: dict[str, Any]) -> Iterator[str]:
    """Yield the licenses that a component of the SBOM declares, as SPDX expressions or names."""
    for each in component.get("licenses", []):
        entry = each.get("license", {})
        name = each.get("expression") or entry.get("id") or entry.get("name", "")
        if name and not name.startswith("declared license") and "\n" not in name:
            yield name.removeprefix("License :: ").removeprefix("OSI Approved :: ")


def title(distribution: Distribution) -> str:
    """Return the first line of a distribution's license file, or ``UNKNOWN``."""
    for file in distribution.files or ():
        if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):  # codespell:ignore licence
            lines = file.read_text(encoding="utf-8").splitlines()
            return next((line.strip() for line in lines if line.strip()), "UNKNOWN")
    return "UNKNOWN"


def main() -> None:
    """Print one line for each package: name, version, license."""
    components = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["components"]
    folders = [str(folder) for folder in Path(sys.argv[2]).glob("lib/python*/site-packages")]
    installed = {each.name.lower().replace("_", "-"): each for each in distributions(path=folders)}
    for each in sorted(components, key=lambda each: each["name"].lower()):
        names = list(dict.fromkeys(declared(each)))
        distribution = installed.get(each["name"].lower().replace("_", "-"))
        if not names and distribution is not None:
            names = [title(distribution)]
        print(f"{each['name']:24} {each.get('version', ''):12} {'; '.join(names) or 'UNKNOWN'}")


if __name__ == "__main__":
    main()
