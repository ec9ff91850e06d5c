"""Ray Serve's settings for `make run`: the fastest of those that open nothing beyond loopback.

Ray reads them in each of its processes. Those that are set already win.
"""

FAST = {
    # No thread and no object of Ray's store between a request and its answer. That is most of what
    # RAY_SERVE_THROUGHPUT_OPTIMIZED does, but with that routers also listen on ports of their own.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Larger than any single message.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**30),
}
