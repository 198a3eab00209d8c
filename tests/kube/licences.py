#!/usr/bin/env python3
"""Prints the licences of every crate that is linked into the image's programs, from cargo's metadata. Argument: the target."""

import collections
import json
import subprocess
import sys

PROGRAMS = {"margay-controller", "margay-felix", "margay-cni", "margayctl"}


def main():
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--filter-platform", sys.argv[1]]
    metadata = json.loads(subprocess.check_output(command))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    todo = [package["id"] for package in metadata["packages"] if package["name"] in PROGRAMS]
    seen = set()
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for dependency in nodes[current]["deps"]:
            # What only builds or tests is not in the programs.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    by_licence = collections.defaultdict(list)
    for each in seen:
        package = packages[each]
        if package["source"]:
            by_licence[package["license"] or f"see {package['license_file']}"].append(f"{package['name']} {package['version']}")
    print("Margay is under the Apache License 2.0. Its programs contain the following crates (https://crates.io), under these licences;")
    print("where there is a choice by OR, Margay takes Apache-2.0 or MIT. They are linked with musl (https://musl.libc.org), MIT.")
    for licence, crates in sorted(by_licence.items()):
        print(f"\n{licence}:")
        for crate in sorted(crates):
            print(f"  {crate}")


main()
