"""Smart routing in the server: each router decides by a copy of what one store has learned."""
