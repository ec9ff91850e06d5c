"""Past queries and what models did on them: kept in a database, and in copies to decide by."""
