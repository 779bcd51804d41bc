"""Validates the documents of scripts/sbom against CycloneDX and the lock file.

usage: sbom.py FOLDER
"""

import json
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

from common import ROOT, SERVICES, check, finish
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema.validators import Draft7Validator

BINARIES = {"fleet", *(f"sosohappy-{name}" for name in SERVICES)}

# The library parses each URL by a general grammar of RFC 3987, which takes 40 ms. This matches a part of that grammar, to which nearly all URLs
# of crates belong; the library parses the others, once each: the documents list the same crates.
CHARACTER = r"(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
COMMON_URL = re.compile(rf"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/{CHARACTER}*)*(?:\?(?:{CHARACTER}|[/?])*)?(?:#(?:{CHARACTER}|[/?])*)?", re.ASCII)
FORMATS = Draft7Validator.FORMAT_CHECKER
parse, raises = FORMATS.checkers["iri-reference"]


@FORMATS.checks("iri-reference", raises=raises)
@cache
def is_iri_reference(text):
    return (isinstance(text, str) and COMMON_URL.fullmatch(text) is not None) or parse(text)


def main():
    locked = {(package["name"], package["version"]): package.get("checksum") for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]}
    for url, valid in (("https://docs.rs/ring/0.17?a=b/c#d%20e", True), ("https://docs.rs/a b", False), ("https://docs.rs/%2", False), ("https://docs.rs/<a>", False)):
        check(FORMATS.conforms(url, "iri-reference") == valid, f"{url} is taken for a URL that is {'in' if valid else ''}valid")
    validator = JsonStrictValidator(SchemaVersion.V1_5)
    found = {path.name.removesuffix(".cdx.json"): path for path in Path(sys.argv[1]).glob("*.cdx.json")}
    check(found.keys() == BINARIES, f"the documents are for {sorted(found)}")
    listed = 0
    for name, path in found.items():
        text = path.read_text()
        check((error := validator.validate_str(text)) is None, f"{name}: {error}")
        components = json.loads(text)["components"]
        listed += len(components)
        for component in components:
            version = (component["name"], component["version"])
            digests = {entry["content"] for entry in component.get("hashes", [])}
            check(version in locked and digests == ({locked[version]} if locked[version] else set()), f"{name}: {version} differs from Cargo.lock")
            check(component.get("licenses"), f"{name}: {version} has no licence")
        names = {component["name"] for component in components}
        check({"sosohappy-common", "sosohappy-events", "axum", "rdkafka-sys", "rustls"} <= names, f"{name}: components are missing, {len(names)} are listed")
        check(not names & {"sosohappy-testkit", "sosohappy-bench", "proptest"}, f"{name}: lists crates of tests")
        check(str(Path.home()) not in text and "/tmp/" not in text, f"{name}: contains paths of this machine")
    finish(f"{len(found)} documents, {listed} components, as in Cargo.lock")


main()
