"""`python -m ops.cli` is `llm-cores`, where that is not on the path."""

from ops.cli.app import main

if __name__ == "__main__":
    main()
