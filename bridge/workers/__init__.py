"""Several processes that share the work of one instance: a supervisor, and workers that are complete applications.

supervisor.py          starts the workers, restarts one that ends; runs control.py and handover.py
control.py             the supervisor's side of the connections to the workers: claims, membership, forwarded messages
handover.py            distributes calls that enter the shared Stasis application to the least loaded worker
worker_pool.py         the supervisor's state of the workers: pure
worker.py              one worker: `bridge.app.application.Application`, connected to the others
supervisor_client.py   the worker's side of its connection
peer_workers.py        a worker's state of the others, and which worker owns a call: pure
request_forwarding.py  HTTP requests that concern other workers too; merging.py joins their responses: pure
"""
