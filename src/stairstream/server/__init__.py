"""HTTP servers: for now the scripted backend as an endpoint, to try things against."""
