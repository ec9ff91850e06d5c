"""Compares streaming with vLLM's own server and Ray's own application: first token and speed.

    python -m ops.bench.engine [--rounds N] [--out FOLDER]

Serves the same models with the same arguments and the same CPU build of vLLM behind each of
`contestants.CONTESTANTS`. They are started once for each model and take turns over HTTP, in a new
order each round. There are two models: the demo's, whose steps are so short that nearly all time is
overhead, and one of random weights whose steps take as long as a large model's on a GPU. Ratios are
of medians over the rounds, to the first contestant's, with 95 % bootstrap intervals. All but the
current contestant are paused (SIGSTOP), since even an idle cluster takes a part of a small machine.
The last line is JSON.
"""
