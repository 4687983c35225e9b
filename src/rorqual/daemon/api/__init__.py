"""The HTTP door: routes that parse, call a service and render. One module a resource."""
