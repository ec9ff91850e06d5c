"""What receives and decides: the HTTP ingress and the router."""
