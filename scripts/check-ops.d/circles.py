"""Finds circles of files: files of one crate that use each other, directly or through others.

A module and those below it are one thing and may use each other. A name that a module re-exports counts as a use of the file that declares it.
Tests are left out.
"""

import re

from common import ROOT, check, finish

USE = re.compile(r"^\s*(pub(?:\([\w:\s]+\))?\s+)?use\s+([^;]+);", re.MULTILINE)
INLINE = re.compile(r"(?<![\w:])((?:crate|super)(?:::\w+)+)")
TESTS = re.compile(r"#\[cfg\((?:all\()?(?:test\b|any\(test)[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*((?:pub(?:\([\w:\s]+\))?\s+)?(?:mod \w+;|use [^;]+;)|mod tests \{|(?:async )?fn )")


def end_of_function(text, at):
    """Returns where the function ends whose name is there: after its body, or after the semicolon of a trait's."""
    # A semicolon within a line is one of an array's type.
    found = re.compile(r"\{|;\n").search(text, at)
    at, depth = found.end(), int(found[0] == "{")
    while depth:
        at = re.compile(r"[{}]").search(text, at).end()
        depth += 1 if text[at - 1] == "{" else -1
    return at


def without_tests(text):
    """Returns the code without comments, texts, and what is compiled for tests only; and the names of modules for tests."""
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r"'[{}]'", "' '", re.sub(r'"(?:\\.|[^"\\])*"', '""', text))
    modules = set()
    while found := TESTS.search(text):
        item = found[1]
        if item.endswith("{"):
            text = text[: found.start()]
        elif item.endswith("fn "):
            text = text[: found.start()] + text[end_of_function(text, found.end()) :]
        else:
            modules |= set(re.findall(r"mod (\w+);", item))
            text = text[: found.start()] + text[found.end() :]
    return text, modules


def flat(tree):
    """Returns the paths of a use: `a::{b, c::{d, self}}` is a::b, a::c::d, a::c. A renamed item keeps both names: `(path, name)`."""
    tree = tree.strip()
    opening = tree.find("{")
    if opening < 0:
        path, _, name = tree.partition(" as ")
        parts = [part.strip() for part in path.split("::") if part.strip()]
        if parts and parts[-1] == "self":
            parts.pop()
        return [(parts, name.strip() or (parts[-1] if parts else ""))]
    before = [part.strip() for part in tree[:opening].split("::") if part.strip()]
    items, depth, start = [], 0, opening + 1
    for at in range(opening + 1, len(tree)):
        if tree[at] == "{":
            depth += 1
        elif tree[at] == "}":
            if depth == 0:
                items.append(tree[start:at])
                break
            depth -= 1
        elif tree[at] == "," and depth == 0:
            items.append(tree[start:at])
            start = at + 1
    return [(before + parts, name) for item in items if item.strip() for parts, name in flat(item)]


class Crate:
    def __init__(self, folder):
        # By module path: (), ("http",), ("http", "serve").
        self.files, self.code, self.exports = {}, {}, {}
        tests = set()
        for path in sorted(folder.glob("src/**/*.rs")):
            parts = list(path.relative_to(folder / "src").with_suffix("").parts)
            if parts[-1] in ("lib", "main") and len(parts) == 1:
                # A binary beside a library is a crate of its own.
                if parts[-1] == "main" and (folder / "src/lib.rs").exists():
                    continue
                parts = []
            elif parts[-1] == "mod":
                parts.pop()
            module = tuple(parts)
            self.files[module] = path
            self.code[module], of_tests = without_tests(path.read_text())
            tests |= {module + (name,) for name in of_tests}
        self.files = {module: path for module, path in self.files.items() if not module or not (module[-1].endswith("tests") or any(module[: len(of)] == of for of in tests))}
        for module in self.files:
            self.exports[module] = {name: parts for visible, tree in USE.findall(self.code[module]) if visible for parts, name in flat(tree)}

    def absolute(self, module, parts):
        """Returns a path from the root of the crate, or none for other crates' items."""
        if not parts:
            return None
        if parts[0] == "crate":
            return parts[1:]
        if parts[0] == "self":
            return [*module, *parts[1:]]
        if parts[0] == "super":
            above = list(module)
            while parts and parts[0] == "super":
                above, parts = above[:-1], parts[1:]
            return above + parts
        # Of Rust 2018: a child of this module.
        return [*module, *parts] if module + (parts[0],) in self.files else None

    def declares(self, path, seen=()):
        """Returns the module that declares the item of an absolute path."""
        for length in range(len(path), -1, -1):
            module = tuple(path[:length])
            if module in self.files:
                break
        rest = path[len(module) :]
        if rest and (module, rest[0]) not in seen and rest[0] in self.exports[module]:
            target = self.absolute(module, self.exports[module][rest[0]])
            if target is not None:
                return self.declares(target + rest[1:], (*seen, (module, rest[0])))
        return module

    def uses(self, module):
        """Returns the modules that a file uses, without those above and below it."""
        code = self.code[module]
        paths = [parts for _, tree in USE.findall(code) for parts, _ in flat(tree)]
        paths += [path.split("::") for path in INLINE.findall(USE.sub("", code))]
        found = set()
        for parts in paths:
            path = self.absolute(module, parts)
            if path is not None:
                used = self.declares(path)
                if used[: len(module)] != module and module[: len(used)] != used:
                    found.add(used)
        return found

    def circles(self):
        """Returns the sets of files that reach each other (Tarjan's strongly connected components, of more than one file)."""
        graph = {module: self.uses(module) for module in self.files}
        index, low, stack, found = {}, {}, [], []

        def visit(module):
            index[module] = low[module] = len(index)
            stack.append(module)
            for used in graph[module]:
                if used not in index:
                    visit(used)
                    low[module] = min(low[module], low[used])
                elif used in stack:
                    low[module] = min(low[module], index[used])
            if low[module] == index[module]:
                members = set()
                while not members or module not in members:
                    members.add(stack.pop())
                if len(members) > 1:
                    found.append(members)

        for module in graph:
            if module not in index:
                visit(module)
        return [{"/".join(module) or "lib" for module in members} for members in found], graph


def main():
    files = 0
    for folder in sorted(path.parent for path in [*ROOT.glob("crates/*/Cargo.toml"), *ROOT.glob("services/*/Cargo.toml"), *ROOT.glob("examples/*/Cargo.toml")]):
        name = str(folder.relative_to(ROOT))
        crate = Crate(folder)
        files += len(crate.files)
        circles, graph = crate.circles()
        for members in circles:
            edges = "; ".join(
                f"{'/'.join(module)} uses {', '.join(sorted('/'.join(used) for used in graph[module] if '/'.join(used) in members))}"
                for module in sorted(graph) if "/".join(module) in members
            )
            check(False, f"{name}: a circle of files: {edges}")
    check(files > 300, f"only {files} files were read")
    finish(f"{files} files, no circles")


main()
