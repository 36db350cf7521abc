"""ramfw: Registry Access Management in the Linux kernel.

core       decides; pure, without clock, socket, file or log
wire       codecs between bytes or text and values; pure
observe    reads the machine and makes events; never decides
program    writes to the kernel; never decides
daemon     wires them; the only place where tasks, sockets and queues are made
cli        what a person uses; the only place that prints or exits
"""

__version__ = "0.1.0"
