"""How many machines a guarded service needs, by simulation."""
