"""ASGI middlewares: what every request passes on its way to an endpoint."""
