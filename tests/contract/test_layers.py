"""The plan of the house: imports go from later rooms to earlier ones, and the style that ruff does not measure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "asr"

# In the order in which data flows. A room may import itself and what stands before it.
LAYERS = (
    "errors",
    "lengths",
    "lines",
    "atomic",
    "source_code",
    "compiled",
    "terminal",
    "config",
    "config_help",
    "resources",
    "marks",
    "text",
    "audio",
    "corpus",
    "features",
    "model",
    "decoding",
    "scoring",
    "recognizer",
    "training",
    "report",
    "inspection",
    "recipe",
    "experiment",
    "inputs",
    "learner",
    "evaluation",
    "preparation",
    "stages",
    "pipeline",
    "studies",
    "cli",
)
HIGHEST_FOR_RECIPES = "recipe"
HEAVY = ("torch", "torchaudio", "numba", "librosa", "webdataset", "sentencepiece", "scipy", "matplotlib", "numpy")

MOST_LINES_OF_FILE = 400
MOST_LINES_OF_FUNCTION = 60
MOST_LINES_OF_ROOM_DOCSTRING = 6
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
FILES = sorted(PACKAGE.rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.py"))


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_file = pytest.mark.parametrize("path", FILES, ids=_id)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _room(path: Path) -> str:
    """The room that a file of the package belongs to, "" for the package's own `__init__.py`."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imported_rooms(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Rooms that are imported anywhere below `node`, with the line; names for types cost nothing and make no cycle."""
    for child in ast.iter_child_nodes(node):
        if _is_for_types_only(child):
            continue
        modules: list[str] = []
        if isinstance(child, ast.Import):
            modules = [alias.name for alias in child.names]
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative import; write it in full"
            module = child.module or ""
            modules = [f"asr.{alias.name}" for alias in child.names] if module == "asr" else [module]
        for parts in (module.split(".") for module in modules):
            if parts[0] == "asr" and parts[1:] and parts[1] != "__version__":
                yield parts[1], child.lineno
        yield from _imported_rooms(child)


def _functions(path: Path) -> list[Function]:
    return [node for node in ast.walk(_tree(path)) if isinstance(node, Function)]


def test_every_room_has_its_place() -> None:
    rooms = {_room(path) for path in FILES} - {""}
    assert rooms <= set(LAYERS), "give the new room a place in LAYERS"
    assert set(LAYERS) <= rooms, "LAYERS names a room that is gone"


@every_file
def test_imports_go_to_earlier_rooms(path: Path) -> None:
    room = _room(path)
    height = LAYERS.index(room) if room else -1
    wrong = [f"line {line}: {other}" for other, line in _imported_rooms(_tree(path)) if LAYERS.index(other) > height]
    assert not wrong, f"{_id(path)} stands below what it imports: {wrong}"


@pytest.mark.parametrize("path", RECIPES, ids=_id)
def test_recipes_read_corpora_and_nothing_else(path: Path) -> None:
    allowed = LAYERS[: LAYERS.index(HIGHEST_FOR_RECIPES) + 1]
    wrong = [f"line {line}: {other}" for other, line in _imported_rooms(_tree(path)) if other not in allowed]
    assert not wrong, f"{_id(path)} imports {wrong}"


def test_a_forbidden_import_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from asr import cli\n    import asr.training.loop, os\n    from asr.text import x\n")
    assert list(_imported_rooms(_tree(path))) == [("cli", 2), ("training", 3), ("text", 4)]


def test_the_command_line_starts_without_heavy_libraries() -> None:
    script = f"import sys, asr.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@every_file
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_FILE
    lengths = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in _functions(path)}
    long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_FUNCTION}
    assert not long


@every_file
def test_names_say_what_is_inside(path: Path) -> None:
    assert not VAGUE_NAMES & {*path.relative_to(PACKAGE).parent.parts, path.stem}


def _forbidden(node: ast.AST) -> str:
    """Why `node` may not stand in the package, "" when it may."""
    if isinstance(node, ast.Assert):
        return "assert: raise an error that says what was expected"
    if isinstance(node, ast.ExceptHandler) and node.type is None:
        return "bare except: name what is caught"
    if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv", "environb"}:
        return "environment variable: settings live in the configuration"
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return "from os import: write os.name, so that os.environ can be found"
    if isinstance(node, ast.Name) and node.id == "hasattr":
        return "hasattr: trust the types"
    return ""


@every_file
def test_nothing_forbidden(path: Path) -> None:
    found = [f"line {node.lineno}: {why}" for node in ast.walk(_tree(path)) if (why := _forbidden(node))]
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "assert x",
        "try:\n    f()\nexcept:\n    pass",
        "os.environ['A']",
        "os.getenv('A')",
        "from os import environ",
        "hasattr(x, 'y')",
    ],
)
def test_the_forbidden_would_be_seen(code: str) -> None:
    assert any(_forbidden(node) for node in ast.walk(ast.parse(code)))


def _undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Public functions, classes and methods without a docstring; setters share their property's."""
    for node in body:
        if not isinstance(node, (*Function.__args__, ast.ClassDef)) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{prefix}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, f"{node.name}.")


@every_file
def test_public_names_have_docstrings(path: Path) -> None:
    tree = _tree(path)
    assert ast.get_docstring(tree), "what is this file for?"
    assert list(_undocumented(tree.body)) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=_id)
def test_rooms_introduce_themselves_briefly(path: Path) -> None:
    docstring = ast.get_docstring(_tree(path)) or ""
    assert 1 <= len(docstring.splitlines()) <= MOST_LINES_OF_ROOM_DOCSTRING
