"""Finds words of private meaning in comments, names of functions, documents and settings, and in the texts of the programs (log lines, titles of
problems, help of metrics), and names the field's term instead.

Code in backticks is left out.
"""

import re

from common import ROOT, check, finish

TERMS = {
    r"told|telling apart": "answered, published, notified, reported; distinguished",
    r"nobody|somebody|whoever": "the subject: no caller, another account, the client that …",
    r"(?:is|are|was|were) away": "unavailable, offline",
    r"goes(?! (?:to|on|through|into|back|out|up|down|between|by)\b)": "is deleted, is sent",
    r"is over(?! (?:the|an?|its|that|\d))": "has ended, has expired",
    r"last word": "the newest event wins",
    r"comes by|veil|bury|buried|parcel|first fleet": "the field's term",
}
WORDS = re.compile("|".join(rf"(?P<t{number}>\b(?:{term})\b)" for number, term in enumerate(TERMS)), re.IGNORECASE)

COMMENT = re.compile(r"(?:^|\s)//[/!]?(.*)$")
FUNCTION = re.compile(r"\bfn (\w+)")
# Of several words: one alone is a name.
TEXT = re.compile(r'"((?:\\.|[^"\\])* (?:\\.|[^"\\])*)"')
TESTS = "#[cfg(test)]\nmod tests"


def of_rust(name, text):
    """Returns what people read of a file, as line number and text: comments, names of functions, and outside of tests the texts of the program."""
    program = "" if "/tests/" in name or name.endswith("tests.rs") else text.split(TESTS)[0]
    for number, line in enumerate(text.splitlines(), 1):
        for found in (COMMENT.search(line), FUNCTION.search(line)):
            if found:
                yield number, found[1].replace("_", " ")
    for number, line in enumerate(program.splitlines(), 1):
        for found in TEXT.finditer(line):
            yield number, found[1]


def of_document(_, text):
    return enumerate(text.splitlines(), 1)


def of_settings(_, text):
    for number, line in enumerate(text.splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]


READERS = {
    "crates/**/*.rs": of_rust,
    "services/**/*.rs": of_rust,
    "examples/**/*.rs": of_rust,
    "docs/**/*.md": of_document,
    "README.md": of_document,
    "services/*/src/settings.toml": of_settings,
    "crates/common/src/settings/shared.toml": of_settings,
}


def main():
    files, lines = 0, 0
    for pattern, reader in READERS.items():
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files += 1
            for number, text in reader(name, path.read_text()):
                lines += 1
                for found in WORDS.finditer(re.sub(r"`[^`]*`", "", text)):
                    term = next(term for at, term in enumerate(TERMS.values()) if found[f"t{at}"])
                    check(False, f"{name}:{number}: “{found[0]}” in “{text.strip()[:80]}”: {term}")
    check(files > 700 and lines > 10_000, f"only {lines} lines of {files} files were read")
    finish(f"{lines} lines of {files} files, none with a word of private meaning")


main()
