"""Who may import whom, by folder: the one table that the tests check and CONTRIBUTING shows."""

from __future__ import annotations

PLAIN = frozenset({"errors", "lazy", "settings", "prompts", "types", "version"})
"""Rooms that every other room may import; they import one another in this order only, from the left."""

ALLOWED: dict[str, frozenset[str]] = {
    "adapters": frozenset({"guarded", "loading", "loop", "result", "algorithm"}),
    "algorithm": frozenset(),
    "batch": frozenset({"guarded", "result", "algorithm"}),
    "calibration": frozenset({"loop", "loading", "algorithm", "models", "rewards", "guarded", "report"}),
    "cli": frozenset(
        {
            "loading",
            "report",
            "rewards.classifiers",
            "result",
            "training",
            "server",
            "rewards",
            "server.telemetry",
            "loop",
            "server.entry",
            "guarded",
            "rewards.judges",
            "batch",
            "embedded",
            "conformance",
            "text",
            "algorithm",
            "calibration",
            "planning",
        }
    ),
    "compatibility": frozenset({"loop", "loading", "algorithm", "models", "rewards"}),
    "conformance": frozenset({"rewards"}),
    "embedded": frozenset({"algorithm"}),
    "guarded": frozenset({"result", "loop", "loading", "algorithm", "models", "rewards", "compatibility"}),
    "http": frozenset(),
    "loading": frozenset(
        {
            "embedded",
            "loop",
            "rewards.classifiers",
            "algorithm",
            "models",
            "models.local",
            "http",
            "rewards",
            "rewards.judges",
            "models.engines",
            "rewards.servers",
        }
    ),
    "loop": frozenset({"result", "text", "algorithm", "models", "rewards"}),
    "models": frozenset({"text", "algorithm"}),
    "models.engines": frozenset({"models", "http", "text", "algorithm"}),
    "models.local": frozenset({"models", "text", "algorithm"}),
    "planning": frozenset({"algorithm"}),
    "report": frozenset({"rewards", "guarded", "result", "algorithm"}),
    "result": frozenset({"algorithm"}),
    "rewards": frozenset(),
    "rewards.bridges": frozenset({"rewards"}),
    "rewards.classifiers": frozenset({"rewards"}),
    "rewards.judges": frozenset({"rewards.classifiers", "rewards"}),
    "rewards.servers": frozenset({"http", "rewards"}),
    "server": frozenset(
        {
            "result",
            "server.openai",
            "loop",
            "loading",
            "server.entry",
            "server.telemetry",
            "shadow",
            "text",
            "algorithm",
            "models",
            "rewards",
            "guarded",
        }
    ),
    "server.entry": frozenset({"server.openai", "server.telemetry"}),
    "server.openai": frozenset({"server.telemetry", "loop", "result", "rewards", "algorithm", "text"}),
    "server.telemetry": frozenset({"shadow", "guarded", "loop", "result", "rewards", "algorithm", "text"}),
    "shadow": frozenset({"rewards", "loop", "algorithm"}),
    "testing": frozenset({"models", "text", "rewards", "algorithm"}),
    "text": frozenset(),
    "training": frozenset(
        {"conformance", "embedded", "loading", "models", "models.local", "rewards.classifiers"}
    ),
}
