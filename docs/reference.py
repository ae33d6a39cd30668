"""Makes the reference: types from the stubs, words from the docstrings of the modules themselves.

A line `::: Name` of a page becomes all there is to say about pylbpf.Name. A hook of mkdocs; the tests use it too.
"""
from __future__ import annotations

import ast
import enum
import functools
import inspect
import re
import types
from pathlib import Path

STUBS = Path(__file__).resolve().parent.parent / "src" / "pylbpf"
MARK = re.compile(r"^::: (\w+)$", re.MULTILINE)
CODE = re.compile(r"``(.+?)``|(`[^`\n]+`)")
C_NAME = re.compile(r"(?<![\w`./])(?:struct |enum )?\w*[A-Za-z]\w*_\w*(?:\(\))?")
Definitions = dict[str, list[ast.stmt]]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for each page."""
    return MARK.sub(lambda match: describe(match[1]), markdown)


def on_config(config: object) -> None:
    """Called by mkdocs at first: a page of nothing would be no help to anybody."""
    import pylbpf  # noqa: F401


# ---------------------------------------------------------------- types, from the stubs


@functools.lru_cache(maxsize=None)
def stub(module: str) -> Definitions:
    """name -> its definitions, several where it is overloaded."""
    written = STUBS.joinpath(*module.split(".")).with_suffix(".pyi")     # what is plain Python carries its types itself
    return definitions(ast.parse((written if written.exists() else written.with_suffix(".py")).read_text()).body)


def definitions(body: list[ast.stmt]) -> Definitions:
    found: Definitions = {}
    for node in body:
        name = getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", None)
        if name:
            found.setdefault(name, []).append(node)
    return found


def module_of(name: str) -> str:
    """The room a public name is from."""
    for node in ast.parse((STUBS / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom) and any(alias.asname == name for alias in node.names) and node.module:
            return node.module
    raise KeyError(f"pylbpf.{name} is not in the stub of the package")


def signature(node: ast.FunctionDef, prefix: str = "") -> str:
    """As one would write a call, without self."""
    arguments = node.args
    if arguments.args and arguments.args[0].arg == "self":
        arguments = ast.arguments(
            posonlyargs=[], args=arguments.args[1:], vararg=arguments.vararg, kwonlyargs=arguments.kwonlyargs,
            kw_defaults=arguments.kw_defaults, kwarg=arguments.kwarg, defaults=arguments.defaults,
        )
    elif arguments.posonlyargs and arguments.posonlyargs[0].arg == "self":
        arguments = ast.arguments(
            posonlyargs=arguments.posonlyargs[1:], args=arguments.args, vararg=arguments.vararg,
            kwonlyargs=arguments.kwonlyargs, kw_defaults=arguments.kw_defaults, kwarg=arguments.kwarg,
            defaults=arguments.defaults,
        )
    parts = [spaced(part) for part in split(ast.unparse(arguments))]
    line = f"{prefix}{node.name}({', '.join(parts)})"
    result = f" -> {ast.unparse(node.returns)}" if node.returns and prefix == "" else ""
    if len(line) + len(result) > 100:
        line = "\n".join([f"{prefix}{node.name}(", *(f"    {part}," for part in parts), ")"])
    return line + result


def spaced(argument: str) -> str:
    """Spaces around the = of an argument with a type."""
    name, equals, default = argument.rpartition("=")
    return f"{name} = {default}" if equals and ":" in name else argument


def split(arguments: str) -> list[str]:
    """At the commas that are not inside brackets."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(arguments):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append(arguments[start:at].strip())
            start = at + 1
    return [*parts, arguments[start:].strip()]


# ---------------------------------------------------------------- words, from the modules


def words(thing: object, name: str) -> str:
    """A docstring as Markdown, without the signature that Cython puts in the first line of special methods."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    first, _, rest = text.partition("\n")
    if re.match(rf"(\w+\.)?{re.escape(name)}\(", first):
        text = rest.strip()
    return "".join(quoted(text))


def quoted(text: str) -> list[str]:
    """C names as code, so that their underscores are not taken for emphasis."""
    pieces, at = [], 0
    for match in CODE.finditer(text):
        pieces.append(C_NAME.sub(r"`\g<0>`", escaped(text[at:match.start()])))
        pieces.append(f"`{match[1]}`" if match[1] else match[2])
        at = match.end()
    pieces.append(C_NAME.sub(r"`\g<0>`", escaped(text[at:])))
    return pieces


def escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*")


def describe(name: str) -> str:
    """All about one public name."""
    import pylbpf

    thing = getattr(pylbpf, name)
    if inspect.ismodule(thing):
        return describe_room(name, thing)
    nodes = stub(module_of(name))[name]
    if isinstance(nodes[0], ast.ClassDef):
        return describe_class(name, thing, nodes[0])
    if isinstance(nodes[0], ast.FunctionDef):
        return section(3, f"{name}()", "\n".join(signature(node) for node in nodes), words(thing, name))
    return section(3, name, ast.unparse(nodes[0]), "")


def describe_room(name: str, room: types.ModuleType) -> str:
    """A module that is public as such."""
    parts = [section(3, name, "", words(room, name))]
    for member in room.__all__:
        nodes = stub(name)[member]
        if isinstance(nodes[0], ast.FunctionDef):
            parts.append(describe_member(name, member, getattr(room, member), nodes))
        else:
            parts.append(section(4, f"{name}.{member}", "", words(getattr(room, member), member)))
    return "\n".join(parts)


def public(thing: type) -> bool:
    import pylbpf

    return thing.__name__ in pylbpf.__all__ or not thing.__module__.startswith("pylbpf.")


def inherited(thing: type) -> list[ast.ClassDef]:
    """What a class has from bases that are not public is told as its own: their stubs, the farthest first."""
    found = [stub(base.__module__.partition(".")[2]).get(base.__name__) for base in reversed(thing.__mro__) if not public(base)]
    return [nodes[0] for nodes in found if nodes and isinstance(nodes[0], ast.ClassDef)]


def describe_class(name: str, thing: type, node: ast.ClassDef) -> str:
    if issubclass(thing, enum.Enum):
        members = ", ".join(f"`{member}`&nbsp;{int(value)}" for member, value in thing.__members__.items())
        return section(3, name, "", f"{words(thing, name)}\n\n{members}")
    members = definitions(node.body)
    own = members.get("__init__", [])
    head = "\n".join(signature(each).replace("__init__", name, 1).replace(" -> None", "") for each in own)
    hidden = [base.__name__ for base in thing.__mro__ if not public(base)]
    known = ", ".join(f"`{ast.unparse(base)}`" for base in node.bases if ast.unparse(base) not in hidden)
    bases = f"*A kind of {known}.*\n\n" if known else ""
    parts = [section(3, name, head, bases + words(thing, name))]
    for base in inherited(thing):
        members = {**members, **definitions(base.body)}
    for member, nodes in members.items():
        if not member.startswith("_"):
            parts.append(describe_member(name, member, getattr(thing, member, None), nodes))
    return "\n".join(parts)


def describe_member(owner: str, member: str, thing: object, nodes: list[ast.stmt]) -> str:
    first = nodes[0]
    if isinstance(first, ast.AnnAssign):
        return f"#### {owner}.{member}\n\n```text\n{ast.unparse(first)}\n```\n"
    assert isinstance(first, ast.FunctionDef)
    if any(ast.unparse(decorator) == "property" for decorator in first.decorator_list):
        setter = next((node for node in nodes[1:] if isinstance(node, ast.FunctionDef)), None)
        shown = f"{member}: {ast.unparse(first.returns)}" if first.returns else member
        if setter:
            annotation = setter.args.args[1].annotation
            shown += f"        # may be set: {ast.unparse(annotation)}" if annotation else ""
        return section(4, f"{owner}.{member}", shown, words(thing, member))
    shown = "\n".join(signature(node) for node in nodes if isinstance(node, ast.FunctionDef))
    return section(4, f"{owner}.{member}()", shown, words(thing, member))


def section(level: int, title: str, code: str, text: str) -> str:
    shown = f"```text\n{code}\n```\n\n" if code else ""
    return f"{'#' * level} {title}\n\n{shown}{text}\n"
