"""The only loop: propose, score, offer; and who runs it for whom."""
