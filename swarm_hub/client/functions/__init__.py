"""Python functions on the devices of a swarm: what is sent of them, and what comes back.

`encoding` and `device` are also read by the interpreter in the sandbox, so they import nothing of
this package.
"""
