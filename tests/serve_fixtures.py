"""A real local Ray with the application on it, for tests over HTTP."""
