"""How often the intervals of `serve.routing.replay` cover the truth, on recorded outcomes.

    python -m ops.bench.replay [--data FOLDER] [--out FOLDER] [--traffics N]

Of each traffic, a random part of the recorded queries is what the store knows, and another part is
routed by the server's own decider, with exploration. What is replayed from what was seen of it is
compared with the recorded outcomes of all models. Cells have the share of intervals that cover the
truth, half their width in the median, and the mean error; in points, but per cent for costs. The
last line is JSON.
"""
