#!/usr/bin/env python3
"""Prints manifests/margay.yaml: the files that manifests/base names, one after the other."""

import pathlib
import re

MANIFESTS = pathlib.Path(__file__).resolve().parents[2] / "manifests"


def files(folder):
    """What a kustomization names, in its order; folders are kustomizations of their own."""
    lines = (folder / "kustomization.yaml").read_text().split("resources:\n")[1].splitlines()
    for line in lines:
        entry = (folder / re.fullmatch(r"- (\S+)", line)[1]).resolve()
        yield from files(entry) if entry.is_dir() else [entry]


def main():
    print("# Margay: kubectl apply -f manifests/margay.yaml\n# Rendered from manifests/base by `make manifests`; do not edit.")
    for file in files(MANIFESTS / "base"):
        print("---")
        print(file.read_text().rstrip("\n"))


main()
