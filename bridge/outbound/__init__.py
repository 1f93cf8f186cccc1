"""Connections that the bridge opens: which are allowed, how names become addresses, and HTTP requests.

`policy` is pure; `names` looks names up in threads; `gate` connects to nothing but addresses that were checked; `http`
makes requests through it.
"""
