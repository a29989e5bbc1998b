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
}
"""Title, licence and use of each set, by the name it has in a data folder."""
