"""Prints the features of proxmox-api, from the output of `cargo metadata`."""

import json
import sys

packages = {package["name"]: package for package in json.load(sys.stdin)["packages"]}
print(*sorted(set(packages["proxmox-api"]["features"]) - {"default", "full"}))
