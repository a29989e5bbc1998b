"""Where the training sets come from and what their licences are, for the model card."""

SOURCES = {
    "diasafety": ("DiaSafety (thu-coai)", "Apache-2.0", "replies judged in context"),
    "jailbreakbench": (
        "JailbreakBench artifacts",
        "MIT",
        "answers under attack, after the goal and the attack",
    ),
    "xstest_completions": ("XSTest v2 completions, even ids", "CC BY 4.0", "judged completions"),
    "advbench_behaviors": ("AdvBench behaviours (llm-attacks)", "MIT", "openings of compliance"),
    "advbench_strings": ("AdvBench strings (llm-attacks)", "MIT", "harmful texts, no prompt"),
    "sentence_polarity": ("Sentence polarity 1.0 (Pang and Lee)", "CC BY 4.0", "harmless texts, no prompt"),
    "hh_harmless_pairs": (
        "HH-RLHF harmless-base (Anthropic)",
        "MIT",
        "soft labels: preferred 0.75, other 0.40",
    ),
    "contrast": (
        "Contrastive answers made for this model",
        "Apache-2.0",
        "SmolLM2-135M-Instruct continuing forced refusals and forced compliance",
    ),
    "pyrit": ("PyRIT 1.1.0 scorer evaluations (Microsoft)", "MIT", "answers scored by people"),
    "diasafety_unseen": (
        "DiaSafety (thu-coai), rows no reward saw",
        "Apache-2.0",
        "replies judged in context",
    ),
    "sentence_polarity_unseen": (
        "Sentence polarity 1.0 (Pang and Lee), rows no reward saw",
        "CC BY 4.0",
        "harmless texts, no prompt",
    ),
    "jailbreakbench_half": ("JailbreakBench artifacts, half the behaviours", "MIT", "answers after the goal"),
    "xstest_completions_half": (
        "XSTest v2 completions, half the prompts of even ids",
        "CC BY 4.0",
        "judged completions",
    ),
}
"""Title, licence and use of each set, by the name it has in a data folder."""
