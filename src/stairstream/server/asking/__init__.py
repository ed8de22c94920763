"""From a request's body to what is to be run, whatever the protocol."""
