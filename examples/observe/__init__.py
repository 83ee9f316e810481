"""An application that Prometheus observes, with a loop that is blocked now and then."""
