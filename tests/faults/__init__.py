"""Streams and requests by the million, with faults at random points; a ledger says what may be shown."""
