"""Ray Serve's settings for `make run`: the fastest of those that listen on no further port.

Ray reads them in each of its processes. Those that are set already win.
"""

FAST = {
    # Requests pass no second event loop and no object of Ray's store on their way to a replica.
    # RAY_SERVE_THROUGHPUT_OPTIMIZED does the same; but with it routers also listen on ports of
    # their own, and a replica's code shares a thread with its health checks, which gains nothing.
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    # Larger than any single message.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**30),
}
