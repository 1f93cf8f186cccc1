"""Outgoing connections: which are allowed, how names are resolved, and HTTP requests.

`policy` is pure; `names` resolves names in threads; `gate` connects only to addresses that were checked; `http` sends
requests through it.
"""
