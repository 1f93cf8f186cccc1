"""Several processes that share the work of one bridge: a supervisor, and workers that are each a whole bridge.

supervisor.py  starts the workers, restarts one that dies; runs control.py and handover.py
control.py     the supervisor's end of the connections to the workers: claims, who is there, what is passed on
handover.py    calls that enter the shared Stasis application go to the least loaded worker
fleet.py       what the supervisor knows of the workers: pure
worker.py      one worker: `bridge.app.application.Application`, wired to the others
member.py      the worker's end of its connection
view.py        what a worker knows of the others, and whose a call is: pure
siblings.py    HTTP requests that concern other workers too; merging.py joins what they answer: pure
"""
