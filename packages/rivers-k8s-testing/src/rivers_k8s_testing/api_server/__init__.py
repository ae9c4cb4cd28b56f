"""An API server over HTTP: connections, routes, admission, streams."""
