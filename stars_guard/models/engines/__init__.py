"""Language models behind an inference engine, over HTTP or in this process."""
