"""Serves our application on this machine, as a cluster would: without the console of `make run`.

python -m ops.bench.overhead.application --config FILE --port PORT [--unmetered]
"""

import argparse
import signal

import ray
from ray import serve as rayserve

from ops.bench.overhead.unmetered import SETUP_HOOK


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--unmetered", action="store_true", help="without any metrics")
    arguments = parser.parse_args()
    hook = {"worker_process_setup_hook": SETUP_HOOK} if arguments.unmetered else {}
    # What workers log stays in files, as on a cluster.
    ray.init(address="local", include_dashboard=False, log_to_driver=False, runtime_env=hook)
    # Ray replaces the handler by one that aborts.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Not at the top: building may ask Ray, which would otherwise start by itself.
        from serve.app import build

        rayserve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
        rayserve.run(build({"config": arguments.config}))
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
