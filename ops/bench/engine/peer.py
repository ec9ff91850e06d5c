"""Serves Ray's own OpenAI application on this machine, as `ops.run` serves ours.

    python -m ops.bench.engine.peer --config FILE --port PORT

The file holds the arguments of `ray.serve.llm.build_openai_app`, as JSON.
"""

import argparse
import json
import signal
from pathlib import Path

import ray
from ray import serve as rayserve


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Its ingress and its engine reserve more CPUs than they use and than a small machine has.
    ray.init(address="local", num_cpus=8, include_dashboard=False)
    try:
        # Not at the top: it imports vLLM, which looks for a running Ray.
        from ray.serve.llm import build_openai_app

        rayserve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
        rayserve.run(build_openai_app(json.loads(arguments.config.read_text())))
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        rayserve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


if __name__ == "__main__":
    main()
