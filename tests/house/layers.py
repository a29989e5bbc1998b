"""Who may import whom, by folder: the one table that the tests check and CONTRIBUTING shows."""

from __future__ import annotations

PLAIN = ("version", "lazy", "forks", "errors", "settings", "types", "prompts")
"""Rooms that every other room may import; of one another they import only those that stand before them."""

_ALLOWED = {
    "cli": (
        "algorithm batch calibration conformance embedded evaluation evaluation.judges evaluation.reporting "
        "evaluation.studies guarded loading loop planning report result rewards rewards.classifiers "
        "rewards.judges server server.entry server.telemetry text training"
    ),
    "server": (
        "algorithm guarded loading loop models result rewards server.anthropic "
        "server.entry server.judging server.openai server.responses server.telemetry shadow text"
    ),
    "server.entry": "server.anthropic server.openai server.telemetry",
    "server.anthropic": "loop result server.openai server.telemetry text",
    "server.judging": "algorithm rewards server.openai",
    "server.responses": "loop result server.openai server.telemetry text",
    "calibration": "algorithm guarded loading loop models report rewards",
    "server.openai": "algorithm loop result rewards server.telemetry text",
    "evaluation": (
        "algorithm batch calibration evaluation.judges evaluation.measures evaluation.methods "
        "evaluation.profiles evaluation.statistics evaluation.tasks guarded loading loop models result "
        "rewards"
    ),
    "evaluation.studies": (
        "algorithm batch calibration evaluation evaluation.judges evaluation.methods evaluation.statistics "
        "evaluation.tasks training"
    ),
    "evaluation.reporting": (
        "algorithm batch calibration evaluation evaluation.judges evaluation.methods evaluation.profiles "
        "evaluation.statistics evaluation.studies evaluation.tasks report result"
    ),
    "evaluation.profiles": "algorithm batch evaluation.methods evaluation.statistics result",
    "evaluation.judges": "evaluation.tasks http loading rewards text",
    "evaluation.measures": "evaluation.tasks models",
    "evaluation.methods": (
        "algorithm batch loading models models.local report result rewards rewards.judges"
    ),
    "evaluation.sentiment": "rewards",
    "evaluation.tasks": "algorithm",
    "evaluation.statistics": "",
    "adapters": "algorithm embedded guarded loading loop models result text",
    "batch": "algorithm guarded loop result",
    "report": "algorithm guarded result rewards",
    "server.telemetry": "algorithm guarded loop result rewards shadow text",
    "guarded": "algorithm compatibility loading loop models result rewards",
    "compatibility": "algorithm loading loop models rewards",
    "training": (
        "algorithm batch calibration conformance embedded loading models models.local rewards "
        "rewards.classifiers"
    ),
    "loading": (
        "algorithm embedded http loop models models.engines models.local rewards rewards.classifiers "
        "rewards.judges rewards.servers"
    ),
    "shadow": "algorithm loop rewards",
    "loop": "algorithm models result rewards text text.dialects",
    "models.engines": "algorithm http models text text.dialects",
    "models.local": "algorithm http models text text.dialects",
    "rewards.judges": "rewards rewards.classifiers text",
    "testing": "algorithm models rewards text text.dialects",
    "conformance": "rewards",
    "embedded": "algorithm",
    "models": "algorithm text text.dialects",
    "planning": "algorithm",
    "result": "algorithm",
    "rewards.bridges": "rewards",
    "rewards.classifiers": "rewards",
    "rewards.servers": "http rewards text",
    "rewards": "http text",
    "algorithm": "",
    "http": "",
    "text": "text.dialects",
    "text.dialects": "",
}
"""Each room, and what it may import besides the plain ones; from the highest floor down."""

ALLOWED: dict[str, frozenset[str]] = {room: frozenset(names.split()) for room, names in _ALLOWED.items()}
