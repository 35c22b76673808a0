"""Nothing lost, nothing paid twice: thousands of uploads while everything fails that can fail.

    python -m bench.chaos --uploads 2000 --seed 1

The real worker runtime (two processes), emulator and events; a model and an Event Grid with scripted faults. A seed
decides what is uploaded, which call of which work meets which fault, which events are lost, doubled or delayed, and
when workers are killed and the emulator restarts, so that a failure can be met again. The order in which two
processes get there is the machine's.
"""
