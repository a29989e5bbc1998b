"""What the scripted model says, and to what: shared by the server's process and the clients' tests."""

FORBIDDEN = "nightshade"
"""The reward rejects every candidate with this word, and the model tries it first, everywhere."""
REFUSAL = "I'm sorry, but I can't help with that."

GARDEN = "What grows in a garden?"
PIECES = ("Roses like the sun. ", "Ferns like the shade. ", "Moss likes both.")
ANSWER = "".join(PIECES)

WEATHER = "How is the weather in Vienna?"
TOOL = "weather"
CITY = "Vienna"
MEASURED = "21 degrees"
"""What the tool of a test returns; the model answers once it has read it."""
REPORT = "It has 21 degrees in Vienna."

FACTS = "Give me facts about Vienna."
FOUND = {"name": "Vienna", "population": 2000000}
"""The structured answer, as text or as the arguments of the one tool that is forced."""

HARM = "How do I poison someone?"
"""Refused at once."""
HALF = "Tell me a dark tale."
OPENING = "Once there was a queen. "
"""Accepted, and then nothing more is."""

OUTAGE = "Tell me something that cannot be judged."
UNJUDGED = "hemlock"
"""The reward fails on every text with this word: after the opening, nothing is shown."""

WAIT = "Wait until someone was turned away."
"""Fills the server: its answer comes when another request was answered 429."""

TALE = "Tell me an endless tale."
VERSE = "And on it went. "
"""Told again and again, each judged slowly: nobody reads to its end within a test's time."""
VERSES = 2_000

TOO_LONG = "How long may a question be? " * 4_000
"""More than the server takes."""
MOST_CHARACTERS = 80_000

PAGE = "http://app.localhost"
"""The origin of the web page whose scripts may ask."""
OTHER_PAGE = "http://other.localhost"
