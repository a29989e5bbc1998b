"""The OpenAI API: fields, answers, streams and errors on the wire."""
