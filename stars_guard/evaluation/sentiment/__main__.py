"""``python -m stars_guard.evaluation.sentiment DATA``: train the classifier of film reviews; write its card.

DATA is a folder with ``train`` and ``eval``, each with ``sentence_polarity.jsonl`` and
``movie_reviews.jsonl``: rows with a ``text`` and whether it is ``positive``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from stars_guard.evaluation.sentiment.training import train_and_measure

if __name__ == "__main__":
    sys.stdout.write(train_and_measure(Path(sys.argv[1])) + "\n")
