"""A cluster: nodes share who streams what, and a directory of all calls, in a common store.

docs/decisions/cluster.md explains why it is a Redis server, and what happens when it or a node is unavailable.
"""
