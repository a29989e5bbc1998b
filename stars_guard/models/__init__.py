"""Language models: local ones through transformers."""
