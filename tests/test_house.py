"""How the package is built: which way imports go, what a folder may do, how long and how called things are.

Each check takes the modules of a package and gives what is wrong, a line each. Every check is tried on a small tree
that breaks it, so that none passes because it looks at nothing. scripts/house.py counts the same things.
"""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import tunekit
from tunekit.stages import STAGES

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from house import arrows, circles, doubles, imported, lengths, read  # noqa: E402

PACKAGE = Path(tunekit.__file__).parent
MODULES = read(PACKAGE)

FLOORS = (
    ("__main__",),
    ("cli",),
    ("recipes",),
    ("runs",),
    ("engine",),
    ("plan",),
    ("memory", "speed"),
    ("data",),
    ("stages", "hardware", "files", "worker"),
    ("console", "errors"),
)
"""A room may import the rooms of the floors below its own."""
ONLY_FOR = {
    "memory": {"cli", "runs", "plan"},  # the others read the prediction that a plan carries
    "speed": {"cli", "runs", "plan"},
    "data": {"cli", "recipes", "runs", "engine", "plan"},
    "hardware": {"cli", "runs", "engine", "plan"},
    "console": {"__main__", "cli", "runs"},  # what plans and predicts prints nothing
}
"""Rooms that not every room above may import."""
MAIN = {"cli", "plan", "console", "errors"}
"""What starts leads to the command line, hides secrets and reports errors."""

TRACE = {f"tunekit.memory.trace.{part}" for part in ("worker", "follow", "kernels", "model")}
WORKERS = TRACE | {
    *("tunekit.data.lengths_worker", "tunekit.data.preview_worker", "tunekit.engine.deploy_program"),
    "tunekit.runs.trained.export.worker",
}
"""These run in processes of their own: the trace, made of torch, and the tokenizer, made of ms-swift."""
HEAVY = ("torch", "transformers", "swift", "matplotlib", "huggingface_hub", "modelscope", "psutil", "numpy", "datasets")
DRAWS = "tunekit.cli.show.picture"

OUTSIDE = ("subprocess", "socket", "urllib.request", "http", "shutil", "tempfile", "tunekit.worker")
"""Modules that start processes, open addresses, move files."""
TRACED = "tunekit.memory.trace.client"
"""Another module that starts processes, for those who may not."""
CHANGES = {"write_text", "write_bytes", "write_atomically", "mkdir", "makedirs", "unlink", "rmdir", "touch"}
STARTS = {"system", "popen", "execv", "execve", "fork"}

CLI_WRITES = {
    ("tunekit.cli.presets", "write_bytes"): "presets copy",
    ("tunekit.cli.recipe", "shutil"): "recipes copy, byte for byte",
    ("tunekit.cli.doctor", "shutil"): "the width of the terminal",
    ("tunekit.cli.show.picture", "write_atomically"): "the picture of --plot",
    ("tunekit.cli.show.page", "write_atomically"): "the page of a run",
}
"""What the command line may do outside of itself: copy a file that the user asks for, write what it draws."""
CLI_OF_PLAN = {
    "tunekit.plan.plan.Plan": "what is drawn",
    "tunekit.plan.settings": "a setting's value as words",
    "tunekit.plan.images": "a bound of pixels in words",
    "tunekit.plan.parts": "the trained parts in words",
    "tunekit.plan.schedule.steps_in_words": "rows and steps in words",
    "tunekit.plan.options": "the options of the commands, their panels and help",
    "tunekit.plan.explained": "what is known of a flag, to be printed",
    "tunekit.plan.settings_file": "the words of a file that stands where options do",
    "tunekit.plan.said.Said": "one word that was typed",
    "tunekit.plan.said.Words": "the words that were typed, handed down",
    "tunekit.plan.request.Request": "what was asked for, handed down",
    "tunekit.plan.said.gather_words": "what makes them of what Typer read",
    "tunekit.memory.spec.Prediction": "what tunekit fit draws",
    "tunekit.memory.spec.Spec": "the configuration in words",
    "tunekit.memory.search": "the words of a verdict",
    "tunekit.speed.duration.Duration": "the time in words",
    "tunekit.plan.presets.fits": "the table of a preset in words, and its copy without it",
    "tunekit.plan.presets.shelf.Preset": "what presets list and show draw",
}
"""All that the command line may import of the rooms that decide and predict."""

STAGE_WORDS = {
    ("tunekit.engine.flags", "sft"): "a command of ms-swift, with the module and class of its arguments",
    ("tunekit.engine.flags", "pt"): "the same",
    ("tunekit.recipes.importers.llamafactory_model", "pt"): "LLaMA-Factory's stage, in which it packs by itself",
    ("tunekit.recipes.importers.llamafactory_stage", "dpo"): "LLaMA-Factory's stage, of which some losses are stages",
    ("tunekit.recipes.importers.llamafactory_stage", "orpo"): "a loss of LLaMA-Factory's",
    ("tunekit.recipes.importers.llamafactory_stage", "simpo"): "the same",
    ("tunekit.recipes.importers.recognition", "rm"): "the program of a shell",
    ("tunekit.cli.runs", "rm"): "what deletes runs",
    ("tunekit.cli.tried", "rm"): "the same, without its group",
    ("tunekit.recipes.importers.swift_before", "sft"): "a command of older ms-swift",
    ("tunekit.recipes.importers.swift_before", "pt"): "the same",
    **{
        ("tunekit.recipes.importers.swift_before_training", word): "a kind of RLHF of older ms-swift"
        for word in ("dpo", "cpo", "simpo")
    },
}
"""Where a word that is a stage's name means something else."""
FOREIGN = "tunekit.recipes.importers."
"""Modules that speak of other tools' stages, in the words of those tools."""
PROSE = ("zero", "preset ", "retry:")
"""What settings are asked for, `zero_stage` and `Source`, instead of reading it from text."""

NOT_MIRRORED = {"contract", "e2e", "golden", "fake_swift", "scripts"}
"""Folders of tests/ that are no room: the real ms-swift, real training, files, a stand-in, scripts/."""

FILLING = re.compile(r"(an?|the|th(is|at)|its?|their|of|to|for|from|[io]n|at|by|with|and|or|as|is|are|be|which|one|s)")
"""Words that say nothing beside a name."""


def room(module):
    return (*module.split("."), "__init__")[1]


def floor(name):
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), None)


def made(folder, files):
    """The modules of a small package: ``{"plan/batch.py": "import os"}``."""
    for name, text in files.items():
        path = folder / "tunekit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(folder / "tunekit")


# --- which way imports go


def may(source, target):
    """Whether a room may import another."""
    if target == "__init__":  # the version
        return True
    below = floor(source) is not None and floor(target) is not None and floor(source) < floor(target)
    return below and source in ONLY_FOR.get(target, {source}) and (source != "__main__" or target in MAIN)


def arrows_back(modules):
    pairs = [(module, target) for module, found in arrows(modules).items() for target in sorted(found)]
    return [f"{module} → {at}" for module, at in pairs if room(module) != room(at) and not may(room(module), room(at))]


def files_in_a_circle(modules):
    return [" → ".join(circle) for circle in circles(arrows(modules))]


# --- what a room may do


def effects(modules, where, more=()):
    """``(module, word)`` for what the modules of a room do to files, processes and addresses."""
    found = set()
    for module, tree in modules.items():
        if room(module) == where:
            names = imported(tree)
            found |= {
                (module, out) for out in (*OUTSIDE, *more) if any(f"{name}.".startswith(f"{out}.") for name in names)
            }
            found |= {(module, word) for node in ast.walk(tree) if (word := changes(node))}
    return found


def changes(node):
    """The name under which a call changes a file or starts a program; None for any other node."""
    if not isinstance(node, ast.Call):
        return None
    alone = isinstance(node.func, ast.Name)
    name = node.func.id if alone else getattr(node.func, "attr", "")
    if name in CHANGES | STARTS:
        return name
    if name not in ("open", "fdopen"):
        return None
    named = [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    modes = named or node.args[1 if alone or name == "fdopen" else 0 :][:1]  # open(path, mode), path.open(mode)
    reads = all(isinstance(mode, ast.Constant) and not set("wax+") & set(str(mode.value)) for mode in modes)
    return None if reads else name


def plan_touches_something(modules):
    return [f"{module}: {word}" for module, word in sorted(effects(modules, "plan", (TRACED,)))]


def parts(modules):
    """For each function, class and table of a package the names that it uses, dotted, and what it does outside."""
    uses, does = {}, {}
    for module, tree in modules.items():
        known = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                known |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        own = {name: node for node in tree.body for name in defined(node)}
        known |= {name: f"{module}.{name}" for name in own}
        for name, node in own.items():
            here = f"{module}.{name}"
            uses[here] = {word for each in ast.walk(node) if (word := dotted(each, known))}
            outside = {word for word in uses[here] if word.startswith(tuple(f"{out}." for out in OUTSIDE))}
            does[here] = sorted(outside | {word for each in ast.walk(node) if (word := changes(each))})
    return uses, does


def plan_asks_for_something(modules):
    """What a plan sets off in other rooms: it uses what writes, starts or opens, or what uses that, and so on.

    Methods that are called on a value are not seen.
    """
    uses, does = parts(modules)
    found = []
    for start in (part for part in uses if room(part) == "plan"):
        way = {word: [start, word] for word in sorted(uses[start] & uses.keys()) if room(word) != "plan"}
        for here in (ahead := list(way)):
            if does[here]:
                found.append(" → ".join([*way[here], does[here][0]]))
                break
            new = sorted(uses[here] & uses.keys() - way.keys())
            way |= {word: [*way[here], word] for word in new}
            ahead += new
    return found


def defined(node):
    """The names that a statement of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def dotted(node, known):
    """What a name or ``module.name`` stands for, dotted from its package; None where it is not known."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        of = dotted(node.value, known)
        return of and f"{of}.{node.attr}"
    return None


def cli_does_something(modules):
    done = effects(modules, "cli", (TRACED,))
    return [f"{module}: {word}" for module, word in sorted(done - CLI_WRITES.keys())]


def cli_of_plan(modules):
    """``(module, name)`` for all that the command line imports of the rooms that decide and predict."""
    rooms = {module: tree for module, tree in modules.items() if room(module) == "cli"}
    deciding = ("tunekit.plan.", "tunekit.memory.", "tunekit.speed.")
    return {(m, name) for m, tree in rooms.items() for name in imported(tree) if f"{name}.".startswith(deciding)}


def listed(name):
    return next((entry for entry in CLI_OF_PLAN if f"{name}.".startswith(f"{entry}.")), None)


def cli_decides(modules):
    return [f"{module} ← {name}" for module, name in sorted(cli_of_plan(modules)) if not listed(name)]


def heavy_things(modules):
    """ms-swift and torch run in processes of their own; psutil watches runs, matplotlib draws what was asked for."""
    found = []
    for module in sorted(modules.keys() - WORKERS):
        tree = modules[module]
        loaded = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
        at_load, ever = (set(HEAVY) & {name.split(".")[0] for name in imported(part)} for part in (loaded, tree))
        found += [f"{module} loads {name}" for name in sorted(at_load)]
        found += [f"{module} imports {name}" for name in sorted(ever - {"matplotlib" if module == DRAWS else "psutil"})]
    return found


def workers_imported(modules):
    """What runs as a process of its own is imported by its own parts alone."""
    pairs = [(module, target) for module, found in arrows(modules).items() for target in sorted(found & WORKERS)]
    return [f"{module} → {target}" for module, target in pairs if module not in WORKERS]


# --- how things are said


def nodes(modules):
    return (
        (f"{module}:{node.lineno}", node)
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if hasattr(node, "lineno")
    )


def numbers_read_from_text(modules):
    def called(node, *names):
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names

    return [
        f"{place} {node.func.id}(str("
        for place, node in nodes(modules)
        if called(node, "int", "float") and any(called(word, "str") for word in node.args)
    ]


def facts_read_from_text(modules):
    return [
        f"{place} {ast.unparse(node)}"
        for place, node in nodes(modules)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("startswith", "removeprefix")
        for text in ast.walk(ast.Tuple(node.args))
        if isinstance(text, ast.Constant) and str(text.value).startswith(PROSE)
    ]


def stage_words(modules):
    """``(module, word)``: where a stage's name stands, and the line."""
    found = defaultdict(list)
    for place, node in nodes(modules):
        module, line = place.split(":")
        if isinstance(node, ast.Constant) and node.value in STAGES and module != "tunekit.stages":
            found[module, node.value].append(line)
    return found


def stages_named(modules):
    found = {said: lines for said, lines in stage_words(modules).items() if not said[0].startswith(FOREIGN)}
    return [f"{at}:{','.join(found[at, word])} {word}" for at, word in sorted(found.keys() - STAGE_WORDS.keys())]


def said_twice(modules):
    return [f"{name}: {', '.join(places)}" for name, places in doubles(modules).items()]


def too_long(modules):
    return [f"{name}: {size} lines" for name, size in lengths(modules).items() if size > 60]


def bare_words(text):
    """The words of a name or a text, without endings and without those that say nothing."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)
    return {
        re.sub(r"(?<=..)(ing|ed|es|s|e|d)$", "", word.lower()) for word in parts if not FILLING.fullmatch(word.lower())
    }


def empty_docstrings(modules):
    """Public functions, classes and methods whose docstring has no word beyond their names."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = []
    for module, tree in modules.items():
        tops = [(node.name, node) for node in tree.body if isinstance(node, kinds)]
        classes = [top for _, top in tops if isinstance(top, ast.ClassDef)]
        tops += [(f"{top.name}.{node.name}", node) for top in classes for node in top.body if isinstance(node, kinds)]
        for name, node in tops:
            text = ast.get_docstring(node)
            hidden = any(part.startswith("_") for part in name.split("."))
            if text and not hidden and bare_words(text) <= bare_words(name):
                found.append(f"{module}:{node.lineno} {name}: {text}")
    return found


# --- the checks, on the package and on what breaks them


SEEN = [
    (arrows_back, "plan/batch.py", "from tunekit.engine.command import build", "from tunekit.data.rows import ROLES"),
    (arrows_back, "errors.py", "from tunekit.console import say", "import enum"),
    (arrows_back, "plan/batch.py", "def f():\n from tunekit import console", "def f():\n from tunekit import errors"),
    (arrows_back, "__main__.py", "import tunekit.runs.folder", "import tunekit.cli.app"),
    (
        arrows_back,
        "recipes/plan.py",
        "from tunekit.memory.estimate import estimate",
        "from tunekit.plan.plan import Plan",
    ),
    (
        files_in_a_circle,
        "plan/batch.py",
        "if TYPE_CHECKING:\n from tunekit.plan.auto import x",
        "import tunekit.errors",
    ),
    (files_in_a_circle, "plan/batch.py", "def f():\n from tunekit.plan import auto", "def f():\n import tunekit"),
    (heavy_things, "plan/batch.py", "def f():\n import torch.nn", "def f():\n import psutil"),
    (heavy_things, "plan/batch.py", "from psutil import Process", "def f():\n from psutil import Process"),
    (heavy_things, "plan/batch.py", "def f():\n import matplotlib", "import math"),
    (workers_imported, "plan/batch.py", "def f():\n from tunekit.data import lengths_worker", "x = 1"),
    (plan_touches_something, "plan/batch.py", "import urllib.request", "import urllib.parse"),
    (plan_touches_something, "plan/batch.py", "from urllib import request", "from urllib import parse"),
    (plan_touches_something, "plan/batch.py", "from tunekit.worker import ask", "from tunekit.errors import Exit"),
    (plan_touches_something, "plan/batch.py", "path.write_text('')", "path.read_text()"),
    (plan_touches_something, "plan/batch.py", "open(path, 'w')", "open(path)"),
    (plan_touches_something, "plan/batch.py", "path.open(mode='ab')", "path.open('rb')"),
    (plan_asks_for_something, "plan/batch.py", "from tunekit.data import lengths\ndef f(): lengths.ask()", "f = 1"),
    (cli_does_something, "cli/fit.py", "path.mkdir()", "path.is_dir()"),
    (cli_does_something, "cli/fit.py", "import subprocess", "import sys"),
    (cli_does_something, "cli/fit.py", "os.execve(words)", "os.getcwd()"),
    (cli_decides, "cli/fit.py", "from tunekit.plan import planner", "from tunekit.plan.plan import Plan"),
    (cli_decides, "cli/fit.py", "from tunekit.memory import estimate", "from tunekit.runs import folder"),
    (numbers_read_from_text, "plan/batch.py", "x = 2 * int(str(y))", "x = 2 * int(y)"),
    (facts_read_from_text, "plan/batch.py", "text.startswith(('zero3', 'b'))", "text.startswith('3')"),
    (facts_read_from_text, "plan/batch.py", "source.removeprefix('preset ')", "source.removeprefix('model ')"),
    (stages_named, "plan/batch.py", "x = {'dpo': 2}", "x = {'dropout': 2}"),
    (said_twice, "plan/batch.py", "def solve(): pass", "def _solve(): pass"),
    (said_twice, "plan/batch.py", "class solve: pass", "class Box:\n def solve(): pass"),
    (too_long, "plan/batch.py", "def f():" + "\n x" * 60, "def f():" + "\n x" * 59),
    (empty_docstrings, "plan/batch.py", 'def merge_adapter(): "Merge the adapters."', 'def merge(): "Merge two."'),
    (empty_docstrings, "plan/batch.py", 'class Run:\n def folder(self): "A run\'s folder."', 'def f(): "Says it."'),
]
BESIDE = {
    "plan/auto.py": "from tunekit.plan.batch import x\ndef solve(): pass",
    "data/lengths.py": "import subprocess\ndef ask(): _ask()\ndef _ask(): subprocess.run()",
    **dict.fromkeys(("__init__.py", "console.py", "cli/app.py", "data/rows.py", "errors.py"), ""),
    **dict.fromkeys(
        (
            "data/lengths_worker.py",
            "engine/command.py",
            "memory/estimate.py",
            "plan/batch.py",
            "plan/plan.py",
            "runs/folder.py",
            "worker.py",
        ),
        "",
    ),
}
"""What stands in each tree beside the file that breaks a rule."""


@pytest.mark.parametrize("check", dict.fromkeys(check for check, *_ in SEEN), ids=lambda check: check.__name__)
def test_house(check):
    found = check(MODULES)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("check", "name", "wrong", "right"), SEEN, ids=[f"{row[0].__name__}-{number}" for number, row in enumerate(SEEN)]
)
def test_each_check_sees(check, name, wrong, right, tmp_path):
    assert not check(made(tmp_path / "right", {**BESIDE, name: right}))
    found = check(made(tmp_path / "wrong", {**BESIDE, name: wrong}))
    assert found
    assert any("tunekit." + name.removesuffix(".py").replace("/", ".") in line for line in found)


def test_every_file_is_looked_at():
    assert len(MODULES) > 30
    assert {room(module) for module in MODULES} == {"__init__", *(name for rooms in FLOORS for name in rooms)}


def test_the_arrows_are_seen():
    """The checks above would pass on a walk that finds nothing."""
    found = {(room(module), room(target)) for module, targets in arrows(MODULES).items() for target in targets}
    assert {("cli", "runs"), ("runs", "engine"), ("engine", "plan"), ("plan", "errors"), ("plan", "hardware")} <= found


def test_nothing_but_main_imports_the_command_line():
    importers = {room(module) for module, targets in arrows(MODULES).items() if "cli" in map(room, targets)}
    assert importers == {"cli", "__main__"}


def test_no_exception_is_left_over():
    assert effects(MODULES, "cli", (TRACED,)) >= CLI_WRITES.keys()
    assert {listed(name) for _, name in cli_of_plan(MODULES)} >= CLI_OF_PLAN.keys()
    assert stage_words(MODULES).keys() >= STAGE_WORDS.keys()
    assert {folder for folder in NOT_MIRRORED if (ROOT / "tests" / folder).is_dir()} == NOT_MIRRORED
    assert MODULES.keys() >= {*WORKERS, DRAWS, TRACED}


# --- what is loaded


ALONE = """
import importlib, json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
for modules, others in json.load(sys.stdin):
    for name in others:  # once for all: what is not of the package
        importlib.import_module(name)
    assert not any(name.split(".")[0] == "tunekit" for name in sys.modules)
    for module in modules:
        child = os.fork()
        if not child:
            try:
                importlib.import_module(module)
            except BaseException:
                print(module, traceback.format_exc().splitlines()[-1], flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


def not_alone(folder, modules):
    """The modules of the package in `folder` that cannot be the first that is imported, and why.

    Workers come last, and not at all where what they are made of is not installed.
    """
    needs = {module: others_at_load(tree) for module, tree in modules.items()}
    there = {name: importlib.util.find_spec(name.split(".")[0]) for names in needs.values() for name in names}
    able = [module for module in WORKERS & needs.keys() if all(there[name] for name in needs[module])]
    batches = [
        (sorted(group), sorted(set().union(*(needs[m] for m in group)))) for group in (needs.keys() - WORKERS, able)
    ]
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)],
        input=json.dumps(batches),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def others_at_load(tree):
    """The modules of others that a file imports when it is loaded."""
    names = set()
    for node in tree.body:
        names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
    return {name for name in names if name.split(".")[0] != "tunekit"}


def test_each_module_can_be_imported_alone():
    found = not_alone(PACKAGE.parent, MODULES)
    assert not found, "\n".join(["", *found])


def test_a_module_that_needs_another_first_is_seen(tmp_path):
    files = {
        "__init__.py": "",
        "plan.py": "from tunekit.batch import solve\nPLAN = 1",
        "batch.py": "from tunekit.plan import PLAN\ndef solve(): pass",
        "rows.py": "import typer",
    }
    found = not_alone(tmp_path, made(tmp_path, files))
    assert [line.split()[0] for line in found] == ["tunekit.batch", "tunekit.plan"]
    assert "ImportError" in found[0]


CALLS = {
    "dry run": ("sft", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "2x80GB", "--dry-run"),
    "json": ("pt", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "H100", "--json"),
    "this machine": ("sft", "--model", "Qwen2.5-0.5B", "--dataset", "data.jsonl", "--dry-run"),
    "presets": ("presets", "list"),
    "fit": ("fit", "--model", "Qwen2.5-7B", "--gpus", "H100"),
    "help": ("--help",),
    "help of a command": ("sft", "--help"),
    "version": ("--version",),
}
PROGRAM = """
import json, sys
from tunekit.__main__ import main
code = None
try:
    main()
except SystemExit as ended:
    code = ended.code
print(json.dumps({"code": int(code or 0), "loaded": sorted(name for name in sys.modules if "." not in name)}),
      file=sys.stderr)
"""


ROW = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.mark.parametrize("call", CALLS)
def test_looking_loads_nothing_heavy(call):
    Path("data.jsonl").write_text(ROW, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *CALLS[call]], capture_output=True, text=True, encoding="utf-8", check=True
    )
    report = json.loads(ended.stderr.splitlines()[-1])
    assert report["code"] == 0
    assert ended.stdout
    assert "tunekit" in report["loaded"]
    assert not set(HEAVY) & set(report["loaded"])


@pytest.mark.parametrize("call", ["dry run", "json", "this machine", "fit"])
def test_a_plan_loads_no_typer_and_no_rich(call):
    """It would be a fifth of the time."""
    Path("data.jsonl").write_text(ROW, encoding="utf-8")
    shown = subprocess.run([sys.executable, "-c", PROGRAM, *CALLS[call]], capture_output=True, text=True, check=True)
    assert not {"typer", "rich", "difflib", "uuid"} & set(json.loads(shown.stderr.splitlines()[-1])["loaded"])


# --- tests beside what they test


def not_mirrored(package, tests):
    code = {path.parent.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py"}
    tested = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    kept = {path for path in tested if not NOT_MIRRORED & {*path.parts[:1]}}
    here = {Path()}
    bare, lost = sorted(code - tested - here), sorted(kept - code - here)
    return [*(f"no tests: {path}" for path in bare), *(f"no such room: {path}" for path in lost)]


def test_tests_mirror_the_package():
    found = not_mirrored(PACKAGE, ROOT / "tests")
    assert not found, "\n".join(["", *found])


def test_a_room_without_tests_and_tests_without_a_room_are_seen(tmp_path):
    for name in ("plan/rules/table.py", "plan/batch.py", "data/__init__.py"):
        made(tmp_path, {name: ""})
    for name in ("plan/test_batch.py", "plan/old/test_x.py", "e2e/deep/test_y.py", "test_docs.py"):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert not_mirrored(tmp_path / "tunekit", tmp_path / "tests") == [
        f"no tests: {Path('plan/rules')}",
        f"no such room: {Path('plan/old')}",
    ]


def test_a_dry_run_asks_nothing_twice():
    words = [sys.executable, ROOT / "scripts/house.py", ROOT, "--dry-run"]
    shown = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True).stdout
    counted = dict(line.rsplit(": ", 1) for line in shown.splitlines() if ": " in line)
    assert int(counted["memory estimates"]) > 0
    assert int(counted["peaks computed"]) == int(counted["different peaks"]) > 0
    assert int(counted["preset files read"]) == int(counted["different preset files"]) > 0
