"""Reactor: handles, ready queue, timers and sources over the Poll core; one turn of the loop."""
