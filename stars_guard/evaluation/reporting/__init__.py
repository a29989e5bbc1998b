"""What an evaluation found, for readers: tables, plots, sentences, one HTML page, and a page of results."""
