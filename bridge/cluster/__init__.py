"""Several bridges on several machines: who streams what, and a directory of all calls, in a store that they share.

docs/decisions/cluster.md says why it is a Redis server, and what holds when it or a bridge is away.
"""
