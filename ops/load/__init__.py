"""Load tests of a running application, and their reports."""
