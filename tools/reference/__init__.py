"""Writes the generated parts of docs/: `python -m tools.reference`; `--check` reports what is not current.

A page has `<!-- generated: NAME -->` and `<!-- end -->` around each part; `FRAGMENTS` names what writes it.

configuration.py  keys of the configuration, from the models
http.py           operations of the HTTP API, from the OpenAPI document, with requests that are really made
metrics.py        metrics, from what `/metrics` returns
command_line.py   the command line, from its parsers
errors.py         reasons of errors
log_events.py     log events, which docs/conf.py inserts when the site is built
"""
