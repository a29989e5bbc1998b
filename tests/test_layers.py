"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stars_guard

ROOT = Path(stars_guard.__file__).parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))
}

PLAIN = {"errors", "settings", "types", "version"}
ALLOWED = {
    # module: what it may import of this package
    "version": set(),
    "errors": {"trace"},  # for type checkers only
    "settings": {"errors"},
    "types": {"errors"},
    "randomness": set(),
    "text": {"errors"},
    "rules": {"errors", "settings"},
    "segments": {"settings"},
    "drawing": {"settings"},
    "config": {"drawing", "escalation", "rules", "segments", "settings", "types"},
    "escalation": {"settings"},
    "dialects": {"types"},
    "transcript": {"dialects", "text", "types"},
    "trace": {"config", "escalation", *PLAIN},
    "run": {"config", "drawing", "escalation", "randomness", "rules", "trace", "rewards.base", *PLAIN},
    "audit": {"run", "trace", "rewards.base", *PLAIN},
    "result": {"trace", *PLAIN},
    "sessions": {"config", "escalation", "models.base", "rewards.base", *PLAIN},
    "job": {
        "config",
        "models.base",
        "randomness",
        "result",
        "rewards.base",
        "rules",
        "run",
        "sessions",
        "dialects",
        "trace",
        "transcript",
        *PLAIN,
    },
    "settings_file": {"errors"},
    "config_file": {"config", "rewards.base", "rewards.corrected", "settings_file", *PLAIN},
    "engine": {
        "config",
        "escalation",
        "job",
        "run",
        "models.base",
        "rewards.base",
        "rewards.one_at_a_time",
        "sessions",
        "shutdown",
        "trace",
        *PLAIN,
    },
    "shutdown": set(),
    "rewards.one_at_a_time": {"rewards.base"},
    "rewards.micro_batch": {"rewards.base", "settings"},
    "lanes": {
        "engine",
        "job",
        "models.base",
        "rewards.base",
        "rewards.micro_batch",
        "sessions",
        "shutdown",
        *PLAIN,
    },
    "streaming": {"engine", "job", "result", "transcript", *PLAIN},
    "loading": {
        "config",
        "config_file",
        "embedded",
        "engine",
        "lanes",
        "models.base",
        "models.int8",
        "models.remote_model",
        "models.transformers",
        "models.vllm",
        "rewards.base",
        "rewards.classifier",
        "rewards.corrected",
        "rewards.formats",
        "rewards.probe",
        "rewards.named",
        *PLAIN,
    },
    "conformance.result": PLAIN,
    "conformance.subject": {"rewards.base", *PLAIN},
    "conformance.contract": {"conformance.result", "conformance.subject", "rewards.base", *PLAIN},
    "conformance.robustness": {
        "conformance.contract",
        "conformance.result",
        "conformance.subject",
        "rewards.base",
        *PLAIN,
    },
    "conformance.runs": {
        "conformance.contract",
        "conformance.result",
        "conformance.subject",
        "rewards.base",
        *PLAIN,
    },
    "conformance.scale": {"conformance.result", "conformance.subject"},
    "conformance.harm": {"conformance.result", "conformance.subject"},
    "conformance.cost": {"conformance.result", "conformance.subject"},
    "conformance.check": {
        *(f"conformance.{name}" for name in ("contract", "cost", "harm", "robustness", "runs", "scale")),
        "conformance.result",
        "conformance.subject",
        "rewards.base",
        *PLAIN,
    },
    "compatibility": {
        "config",
        "config_file",
        "engine",
        "escalation",
        "models.base",
        "rewards.base",
        *PLAIN,
    },
    "guarded": {
        "compatibility",
        "config",
        "config_file",
        "engine",
        "escalation",
        "job",
        "lanes",
        "loading",
        "models.base",
        "result",
        "rewards.base",
        "rewards.micro_batch",
        "sessions",
        "streaming",
        *PLAIN,
    },
}
BACKENDS_MAY_IMPORT = {
    "config",
    "dialects",
    "http_access",
    "http_address",
    "http_failure",
    "randomness",
    "segments",
    "text",
    *PLAIN,
}
CORE = {"engine", "lanes", "guarded", "job", "run", "streaming", "result", "trace", "loading"}
TENSOR_FOLDERS = ("models", "rewards", "embedded", "training")
TENSOR_PACKAGES = {"torch", "transformers", "peft", "safetensors", "gguf", "tokenizers", "llguidance"}
FRAMEWORKS = ("langchain", "llama_index", "llama-index", "llamaindex")


def imports(module):
    """Dotted names that a module imports, wherever in its source."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if is_module(name) else node.module for name in whole)


def is_module(name):
    inside = name.removeprefix("stars_guard.")
    return inside in SOURCES or f"{inside}.__init__" in SOURCES


def own_imports(module):
    found = {name.removeprefix("stars_guard.") for name in imports(module) if name.startswith("stars_guard")}
    return {"version" if name == "stars_guard" else name for name in found}


def in_folder(module, *folders):
    return module.split(".")[0] in folders and "." in module


def test_every_source_is_read():
    assert {"engine", "run", "models.base", "rewards.base", "__init__"} <= set(SOURCES)


@pytest.mark.parametrize("module", ALLOWED)
def test_the_core_imports_downwards_only(module):
    assert own_imports(module) <= ALLOWED[module]


@pytest.mark.parametrize("module", [name for name in SOURCES if in_folder(name, "models", "rewards")])
def test_backends_know_nothing_of_the_engine(module):
    own_folder = module.split(".")[0]
    foreign = {name for name in own_imports(module) if not name.startswith(own_folder)}
    assert not foreign & CORE
    assert foreign <= BACKENDS_MAY_IMPORT


@pytest.mark.parametrize("module", [name for name in SOURCES if not in_folder(name, *TENSOR_FOLDERS)])
def test_tensors_stay_under_their_folders(module):
    assert not {name.split(".")[0] for name in imports(module)} & TENSOR_PACKAGES


@pytest.mark.parametrize("module", ["models.base", "models.__init__", "rewards.base", "rewards.function"])
def test_the_protocols_cost_no_tensors(module):
    assert not {name.split(".")[0] for name in imports(module)} & TENSOR_PACKAGES


@pytest.mark.parametrize("module", SOURCES)
def test_no_framework_is_named(module):
    source = SOURCES[module].read_text(encoding="utf-8").lower()
    assert not [name for name in FRAMEWORKS if name in source]
