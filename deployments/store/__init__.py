"""Past queries and what models did on them: kept in a database, searched in memory."""
