"""Text by token ids: for every kind of decoder what it is by definition, however the ids are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard.models.chat import decoder
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.decoding import AnswerDecoder, Opaque, Remote, unfinished
from stars_guard.text.dialects import PLAIN
from stars_guard.text.transcript import Transcript
from stars_guard.types import Finish
from tests.support.vocabularies import KINDS

LENGTHS = (1, 2, 3, 8, 32)
WRITTEN = "Hi 안녕 ☃😀 né"


def by_segments(decode, ids, length, finish, text_so_far):
    """The text of a whole answer, and the pieces that were shown of it."""
    answer = AnswerText(decode)
    transcript = Transcript(PLAIN, None, (), "a234567")
    pieces = []
    segments = [ids[start : start + length] for start in range(0, len(ids), length)] or [[]]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        text, _ = answer.drawn(segment, finish if last else None)
        answer.accept(segment, text)
        if not last:
            assert text == text_so_far(answer.token_ids)
        pieces += transcript.accept(text)
    return text, "".join(piece.text for piece in [*pieces, *transcript.flush(None)])


@st.composite
def answers(draw, vocabulary):
    """Ids of which runs make characters, and others do not."""
    parts = st.one_of(
        st.sampled_from(vocabulary.ids).map(lambda token: [token]),
        st.text(min_size=1, max_size=4).map(
            lambda text: spelled(vocabulary, text.encode("utf-8", "replace"))
        ),
        st.binary(min_size=1, max_size=4).map(lambda data: spelled(vocabulary, data)),
    )
    return [token for part in draw(st.lists(parts, max_size=8)) for token in part]


def spelled(vocabulary, data):
    """The ids of these bytes, in a vocabulary that has bytes; otherwise some ids."""
    known = vocabulary.tokenizer.get_vocab()
    if "<0x00>" in known:
        return [known[f"<0x{byte:02X}>"] for byte in data]
    return [vocabulary.ids[byte % len(vocabulary.ids)] for byte in data]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=60)
def test_text_is_what_it_is_by_definition_for_any_decoder_and_any_segments(kind, data):
    vocabulary = KINDS[kind]()
    ids = data.draw(answers(vocabulary))
    decode = decoder(vocabulary.tokenizer, PLAIN)
    for finish, text_of in ((Finish.EOS, vocabulary.ended), (Finish.LENGTH, vocabulary.complete)):
        for length in LENGTHS:
            text, shown = by_segments(decode, ids, length, finish, vocabulary.complete)
            assert text == shown == text_of(ids)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40)
def test_text_of_valid_characters_is_what_the_tokenizer_decodes(kind, data):
    vocabulary = KINDS[kind]()
    ids = [token for token in data.draw(answers(vocabulary)) if "\ufffd" not in vocabulary.ended([token])]
    tokenizer = vocabulary.tokenizer
    expected = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert decoder(tokenizer, PLAIN)(ids) == expected


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40)
def test_a_raw_prompt_changes_nothing_of_an_answer_but_whether_it_begins_a_text(kind, data):
    vocabulary = KINDS[kind]()
    prompt, ids = data.draw(answers(vocabulary)), data.draw(answers(vocabulary))
    decode = decoder(vocabulary.tokenizer, PLAIN)
    after = decode.after(prompt)
    assert after([]) == after.ended([]) == ""
    whole, begun = decode(ids), after(ids)
    # A blank that begins a text is left out, and those of WordPiece and of no decoder stand between words.
    assert begun.removeprefix(" ") == whole.removeprefix(" ") or kind in ("word_piece", "suffixes")
    assert after.ended(ids).startswith(begun)


def test_an_added_token_beside_half_a_character_is_read_as_it_is_spelled():
    vocabulary = KINDS["byte_level"]()
    known = vocabulary.tokenizer.get_vocab()
    half = next(token for token in vocabulary.ids if vocabulary.ended([token]) == "a\ufffd")
    ids = [half, known["<\N{FULLWIDTH VERTICAL LINE}added>"], half]
    decode = decoder(vocabulary.tokenizer, PLAIN)
    assert decode(ids) == vocabulary.complete(ids) == "a\ufffd<\N{FULLWIDTH VERTICAL LINE}added>a"


@pytest.mark.parametrize("kind", ["llama2", "gemma"])
def test_a_shown_character_stays_beside_an_invalid_byte(kind):
    vocabulary = KINDS[kind]()
    decode = decoder(vocabulary.tokenizer, PLAIN)
    (letter,) = vocabulary.tokenizer.convert_tokens_to_ids(["H"])
    smile, half = spelled(vocabulary, "😀".encode()), spelled(vocabulary, "😀".encode()[:2])
    assert decode([*smile, *half]) == "😀"
    assert decode.ended([*smile, *half]) == "😀\ufffd\ufffd"
    assert decode([*smile, *half, letter]) == "😀\ufffd\ufffdH"
    assert decode([*half, *smile, letter]) == "\ufffd\ufffd😀H"
    # What the library makes of that run:
    assert vocabulary.tokenizer.decode([*smile, *half, letter]) == "\ufffd" * 6 + "H"


@pytest.mark.parametrize("prompt", ["\u200d".encode(), "😀".encode(), b"\xf0\x9f"])
@pytest.mark.parametrize("kind", ["llama2", "gemma"])
def test_bytes_that_end_a_raw_prompt_do_not_garble_the_answer(kind, prompt):
    vocabulary = KINDS[kind]()
    known = vocabulary.tokenizer.get_vocab()
    decode = decoder(vocabulary.tokenizer, PLAIN).after(spelled(vocabulary, prompt))
    ids = [*spelled(vocabulary, "½".encode()), known["▁a"]]
    assert decode(ids) == "½ a"
    assert decode([known["▁a"]]) == " a"


@given(st.text(), st.integers(0, 3))
def test_bytes_that_begin_a_character_are_counted(text, missing):
    data = (text + "😀").encode()
    assert unfinished(data[: len(data) - missing]) == (4 - missing) % 4
    assert unfinished(data[: len(data) - missing] + b"\xff") == 0


class Rewriting:
    """Decodes two blanks as one, wherever they come from, so that a blank that was shown is taken back."""

    def __call__(self, ids):
        return "".join(" - abc"[token] for token in ids).replace(" -", "=")


def test_what_was_accepted_stays_where_a_decoder_rewrites_it():
    decode = AnswerDecoder(Opaque(Rewriting()))
    text, shown = by_segments(decode, [3, 0, 1, 4], 2, Finish.EOS, lambda ids: "a ")
    assert text == shown == "a -b"
    text, shown = by_segments(decode, [3, 0, 1, 4], 2, Finish.LENGTH, lambda ids: "a ")
    assert text == shown == "a -b"


def served(vocabulary):
    """What a server with this tokenizer says, and how often it was asked."""
    asked = []

    def text(ids):
        asked.append(len(ids))
        return vocabulary.tokenizer.decode(ids)

    return AnswerDecoder(Remote(text)), asked


@pytest.mark.parametrize("kind", ["llama2", "byte_level"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_server_that_says_only_texts_hides_no_complete_character(kind, length):
    vocabulary = KINDS[kind]()
    data = WRITTEN.encode()
    known = {vocabulary.ended([token]): token for token in vocabulary.ids}
    ids = spelled(vocabulary, data) if kind == "llama2" else [known[" ☃"], known["☃☃"], known["é"]]
    decode, asked = served(vocabulary)
    for number in range(1, len(ids) + 1):
        asked.clear()
        assert decode(ids[:number]) == vocabulary.complete(ids[:number])
        assert len(asked) <= 4
    text, shown = by_segments(decode, ids, length, Finish.EOS, vocabulary.complete)
    assert text == shown == vocabulary.ended(ids)


def test_a_server_that_gives_up_on_a_run_takes_nothing_back():
    vocabulary = KINDS["gemma"]()
    decode, _ = served(vocabulary)
    smile, half = spelled(vocabulary, "😀".encode()), spelled(vocabulary, "😀".encode()[:2])
    assert decode.ended([*smile, *half]) == "😀\ufffd\ufffd"
    (letter,) = vocabulary.tokenizer.convert_tokens_to_ids(["H"])
    text, shown = by_segments(decode, [*smile, *half, letter], 5, Finish.EOS, lambda ids: "😀")
    assert text == shown == "😀\ufffdH"
