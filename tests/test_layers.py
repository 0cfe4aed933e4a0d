"""The house (imports point downwards only, and never in a circle), read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import vlsmctl

ROOT = Path(vlsmctl.__file__).parent

# By the first part of a module's name below the package
LAYERS = {
    0: ("errors", "quiet", "files", "ahead", "network", "processors", "claims"),
    1: ("config", "runtime", "console", "formats"),
    2: ("datasets", "batches", "preprocessing", "losses", "metrics", "intervals", "paired", "mask_files",
        "presence", "adapters", "figures"),
    3: ("models",),
    4: ("checkpoint", "runs", "resume", "training", "validation", "ledger", "predictor", "prompt_files",
        "cases", "machine", "overlays", "writing", "prediction", "pairing", "evaluation", "summary",
        "score_files", "split_masks", "sensitivity", "scoring", "comparison", "preview", "report",
        "pretraining", "quickstart", "reproduce", "export", "bench", "bench_scoring"),
    5: ("cli", "commands", "__main__"),
}  # fmt: skip
LAYER_OF = {part: layer for layer, parts in LAYERS.items() for part in parts}
HEAVY = ("torch", "numpy", "scipy", "transformers", "monai", "accelerate", "nibabel", "pydicom", "PIL",
         "open_clip", "pydantic", "huggingface_hub", "matplotlib", "jinja2")  # fmt: skip


def module_name(path: Path) -> str:
    parts = ("vlsmctl", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of this package that `module` imports anywhere: at its top, in a function, or for
    types only."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {_module(alias.name) for alias in node.names if _ours(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            if node.module and _ours(node.module):
                found |= {_module(f"{node.module}.{alias.name}") for alias in node.names}
    return frozenset(found - {"vlsmctl"})


def _ours(name: str) -> bool:
    return name.split(".")[0] == "vlsmctl"


def _module(name: str) -> str:
    """The module that a dotted name is or lies in."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def everything_below(module: str) -> set[str]:
    """What `module` imports, directly or through others."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        for one in imports(waiting.pop()) - seen:
            seen.add(one)
            waiting.append(one)
    return seen


def part(module: str) -> str:
    return module.split(".")[1]


INSIDE = [module for module in MODULES if module != "vlsmctl"]


def test_the_reader_finds_imports_of_every_kind() -> None:
    assert len(MODULES) > 40
    assert imports("vlsmctl.checkpoint") >= {"vlsmctl.errors", "vlsmctl.models.build"}
    assert "vlsmctl.commands.train" in imports("vlsmctl.cli")  # from a package, its module
    assert "vlsmctl.training" in imports("vlsmctl.commands.train")  # within a function


@pytest.mark.parametrize("module", INSIDE)
def test_every_module_has_a_layer(module: str) -> None:
    assert part(module) in LAYER_OF, f"{module}: give it a layer in {Path(__file__).name}"


@pytest.mark.parametrize("module", INSIDE)
def test_imports_never_point_upwards(module: str) -> None:
    upwards = [one for one in imports(module) if LAYER_OF[part(one)] > LAYER_OF[part(module)]]
    assert not upwards, f"{module} imports from a layer above its own"


def test_imports_never_go_in_a_circle() -> None:
    order = list(TopologicalSorter({module: imports(module) for module in MODULES}).static_order())
    assert set(order) == set(MODULES)  # a circle raises CycleError, which names it


def test_packages_never_go_in_a_circle() -> None:
    """Nor do the parts of the house: not datasets -> adapters and adapters -> datasets."""
    graph: dict[str, set[str]] = {}
    for module in INSIDE:
        graph.setdefault(part(module), set()).update(part(one) for one in imports(module))
    list(TopologicalSorter({name: below - {name} for name, below in graph.items()}).static_order())


@pytest.mark.parametrize(
    "module", ["vlsmctl.evaluation", "vlsmctl.summary", "vlsmctl.comparison", "vlsmctl.mask_files"]
)
def test_scoring_files_knows_no_model(module: str) -> None:
    parts = {part(one) for one in everything_below(module)}
    assert not parts & {"models", "adapters", "prediction", "training", "checkpoint"}


@pytest.mark.parametrize("name", ["formats", "datasets"])
def test_files_and_data_know_no_torch(name: str) -> None:
    """They are read by worker processes and by `prepare`, which need not wait for it."""
    for module in INSIDE:
        if part(module) == name:
            tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
            top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
            top |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
            assert not {one for one in top if one.split(".")[0] in ("torch", "transformers", "monai")}, (
                module
            )


COMMANDS = sorted(module for module in INSIDE if part(module) in ("cli", "commands"))


def test_the_command_line_starts_without_heavy_imports() -> None:
    """In a fresh interpreter, so that `--help` answers at once."""
    program = (
        "import importlib, sys\n"
        f"for name in {COMMANDS!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [one for one in {HEAVY!r} if one in sys.modules]\n"
        "    assert not heavy, (name, heavy)\n"
        "print('light')\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "light\n", done.stderr


def test_the_names_asked_for_are_those_of_real_modules() -> None:
    """A misspelt name in HEAVY would never be found."""
    import importlib.util

    for name in HEAVY[:8]:
        assert importlib.util.find_spec(name) is not None, name
